"""Crop to the foreground, and say so when there is none."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import CropForegroundd

from ..errors import InputError
from ..files import case_path


class CropToForegroundd(CropForegroundd):
    """MONAI's CropForegroundd, with its arguments; InputError for an image in which nothing is foreground."""

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Crop every key to the box of the foreground of the source image."""
        if not bool(self.cropper.select_fn(data[self.source_key]).any()):
            raise InputError(
                f"{case_path(data, self.source_key)} has no foreground, no voxel is above 0 where it is cropped; "
                "check its units (CT in HU), or set intensity_range"
            )
        return super().__call__(data, lazy)
