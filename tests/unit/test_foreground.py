"""Cropping to the foreground."""

import pytest
import torch
from monai.data import MetaTensor

from custom.errors import InputError
from custom.transforms import CropToForegroundd


def volume(value: float) -> dict[str, MetaTensor]:
    image = torch.zeros(1, 8, 8, 8)
    image[:, 2:5, 3:6, 4:7] = value
    return {"image": MetaTensor(image, meta={"filename_or_obj": "ct.nii.gz"})}


def test_the_crop_is_the_box_of_the_foreground() -> None:
    assert CropToForegroundd("image", "image")(volume(0.5))["image"].shape == (1, 3, 3, 3)


def test_an_image_without_foreground_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"ct\.nii\.gz has no foreground.*set intensity_range"):
        CropToForegroundd("image", "image")(volume(0.0))
