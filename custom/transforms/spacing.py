"""Resample to a spacing, also inside MONAI Label."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai import transforms


class Spacingd(transforms.Spacingd):
    """MONAI's Spacingd, with its arguments, for data with plain values beside the images.

    MONAI 1.6 takes every `<key>_...` for a dictionary of metadata and fails on others, such as the `image_path` that
    MONAI Label adds to each request. Here they pass unchanged.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:
        """Resample every key."""
        plain = {name: value for name, value in data.items() if self._is_beside_a_key(name, value)}
        images = {name: value for name, value in data.items() if name not in plain}
        return dict(super().__call__(images, lazy)) | plain

    def _is_beside_a_key(self, name: Hashable, value: Any) -> bool:
        beside = name not in self.keys and any(str(name).startswith(f"{key}_") for key in self.keys)
        return beside and not isinstance(value, dict)
