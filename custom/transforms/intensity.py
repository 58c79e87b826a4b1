"""Intensities to 0..1, without copies of the volume."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..errors import InputError


class WindowIntensityd(MapTransform):
    """Intensities from low to high become 0 to 1, all below 0 and all above 1, in place.

    What MONAI's ScaleIntensityRanged does with `clip=True`, which holds three further copies of the volume on the way.

    Args:
        keys: float32 images of any shape; they are changed.
        window: (low, high) in the units of the image, HU for CT.
        allow_missing_keys: do not fail where a case lacks a key.

    Raises:
        InputError: a window that is empty.
    """

    def __init__(self, keys: KeysCollection, window: Sequence[float], allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.low, self.high = (float(value) for value in window)
        if not self.low < self.high:
            raise InputError(f"the window {window} is empty; give the lower intensity first and a higher one after it")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.key_iterator(data):
            data[key].sub_(self.low).div_(self.high - self.low).clamp_(0, 1)
        return dict(data)
