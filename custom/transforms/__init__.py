"""Transforms that MONAI does not have: checked loading, the way back to the grid of the file, and pictures."""

from .load import LoadVolumed
from .native import NativeImaged, NativeLabelsd
from .pictures import SaveOverlayd, SaveReconstructiond

__all__ = ["LoadVolumed", "NativeImaged", "NativeLabelsd", "SaveOverlayd", "SaveReconstructiond"]
