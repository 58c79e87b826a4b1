"""Resampling inside MONAI Label, whose data carry plain values beside the images."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacingd as MonaiSpacingd

from custom.transforms import LoadVolumed, Spacingd

PIXDIM = (2.0, 2.0, 2.0)


@pytest.fixture
def request_of_label(tmp_path: Path) -> dict:
    """A loaded image, and what MONAI Label puts beside it."""
    path = tmp_path / "case.nii.gz"
    voxels = np.random.default_rng(0).normal(size=(8, 6, 4)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 1.0, 1.0])), path)
    loaded = LoadVolumed("image")({"image": str(path)})
    return loaded | {"image_path": str(path), "model": "unetr_btcv"}


def test_monai_1_6_fails_on_a_path_beside_the_image(request_of_label: dict) -> None:
    """The fault that the subclass is for. When this test fails, MONAI has mended it and the subclass can go."""
    with pytest.raises(AttributeError, match="'str' object has no attribute 'update'"):
        MonaiSpacingd("image", PIXDIM)(request_of_label)


def test_plain_values_pass_and_the_image_is_what_monai_makes_of_it(request_of_label: dict) -> None:
    alone = {"image": request_of_label["image"].clone()}
    done = Spacingd("image", PIXDIM)(request_of_label)
    expected = MonaiSpacingd("image", PIXDIM)(alone)["image"]
    assert torch.equal(done["image"], expected)
    assert (done["image_path"], done["model"]) == (request_of_label["image_path"], "unetr_btcv")


def test_metadata_beside_the_image_is_still_updated(request_of_label: dict) -> None:
    data = request_of_label | {"image_meta_dict": {}}
    done = Spacingd("image", PIXDIM)(data)
    assert isinstance(done["image"], MetaTensor)
    assert np.allclose(done["image_meta_dict"]["affine"], np.diag([2.0, 2.0, 2.0, 1.0]))


def test_a_key_may_begin_as_another_does(request_of_label: dict) -> None:
    image = MetaTensor(request_of_label["image"].as_tensor(), affine=request_of_label["image"].affine)
    data = request_of_label | {"image": image, "image_label": image.clone()}
    done = Spacingd(["image", "image_label"], PIXDIM)(data)
    assert torch.equal(done["image"], done["image_label"]) and done["image"].shape != image.shape
