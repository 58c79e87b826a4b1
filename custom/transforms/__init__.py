"""Transforms that MONAI does not have: checked loading, the way back to the grid of the file, and pictures."""

from .contrasts import DropContrastsd, RandDropContrastsd
from .foreground import CropToForegroundd
from .load import LoadVolumed
from .native import NativeImaged, NativeLabelsd
from .pictures import SaveOverlayd, SaveReconstructiond
from .tumour import NativeTumourLabelsd, SaveTumourOverlayd, TumourRegionsd
from .write import CompleteNibabelWriter

__all__ = [
    "CompleteNibabelWriter",
    "CropToForegroundd",
    "DropContrastsd",
    "LoadVolumed",
    "NativeImaged",
    "NativeLabelsd",
    "NativeTumourLabelsd",
    "RandDropContrastsd",
    "SaveOverlayd",
    "SaveReconstructiond",
    "SaveTumourOverlayd",
    "TumourRegionsd",
]
