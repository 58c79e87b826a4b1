"""From image files to crops: lists of cases, a cache of preprocessed volumes, and the datasets that read it."""

from .crops import CropDataset, EpochSampler, each_case_once
from .datalists import datalist, input_images
from .entries import CachedVolume
from .images import ImageDataset
from .nih import FINDINGS
from .patients import nih_datalist
from .radiographs import input_radiographs
from .volumes import VolumeCache, VolumeDataset

__all__ = [
    "FINDINGS",
    "CachedVolume",
    "CropDataset",
    "EpochSampler",
    "ImageDataset",
    "VolumeCache",
    "VolumeDataset",
    "datalist",
    "each_case_once",
    "input_images",
    "input_radiographs",
    "nih_datalist",
]
