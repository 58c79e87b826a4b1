"""From image files to crops: lists of cases, a cache of preprocessed volumes, and the datasets that read it."""

from .crops import CropDataset, EpochSampler
from .datalists import datalist, input_images
from .entries import CachedVolume
from .volumes import VolumeCache, VolumeDataset

__all__ = [
    "CachedVolume",
    "CropDataset",
    "EpochSampler",
    "VolumeCache",
    "VolumeDataset",
    "datalist",
    "input_images",
]
