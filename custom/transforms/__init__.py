"""Transforms that MONAI does not have: checked loading, the way back to the grid of the file, and pictures."""

from .foreground import CropToForegroundd
from .load import LoadVolumed
from .native import NativeImaged, NativeLabelsd
from .pictures import SaveOverlayd, SaveReconstructiond
from .write import CompleteNibabelWriter

__all__ = [
    "CompleteNibabelWriter",
    "CropToForegroundd",
    "LoadVolumed",
    "NativeImaged",
    "NativeLabelsd",
    "SaveOverlayd",
    "SaveReconstructiond",
]
