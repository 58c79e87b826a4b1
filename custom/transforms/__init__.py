"""Transforms that MONAI does not have: checked loading, the way back to the grid of the file, and pictures."""

from .augment import RandAugmentd, RandResizedCropd
from .contrasts import DropContrastsd, RandDropContrastsd
from .findings import SaveFindingsd, SaveRelevanced
from .flip import RandFlipAxesd
from .foreground import CropToForegroundd
from .intensity import WindowIntensityd
from .load import LoadVolumed
from .load_spaced import LoadAtSpacingd
from .native import FileMetad, NativeImaged, NativeLabelsd
from .pictures import SaveOverlayd, SaveReconstructiond
from .radiographs import LoadRadiographd
from .tumour import NativeTumourLabelsd, SaveTumourOverlayd, TumourRegionsd
from .write import CompleteNibabelWriter

__all__ = [
    "CompleteNibabelWriter",
    "CropToForegroundd",
    "DropContrastsd",
    "FileMetad",
    "LoadAtSpacingd",
    "LoadRadiographd",
    "LoadVolumed",
    "NativeImaged",
    "NativeLabelsd",
    "NativeTumourLabelsd",
    "RandAugmentd",
    "RandDropContrastsd",
    "RandFlipAxesd",
    "RandResizedCropd",
    "SaveFindingsd",
    "SaveOverlayd",
    "SaveReconstructiond",
    "SaveRelevanced",
    "SaveTumourOverlayd",
    "TumourRegionsd",
    "WindowIntensityd",
]
