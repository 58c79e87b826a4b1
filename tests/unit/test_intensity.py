"""Intensities of a window become 0 to 1."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import ScaleIntensityRanged

from custom.errors import InputError
from custom.transforms import WindowIntensityd


@pytest.mark.parametrize("window", [(-175, 250), (0.0, 1.0), (-1000, 3000.5)])
def test_intensities_are_those_of_monai(window: tuple[float, float]) -> None:
    image = MetaTensor(torch.randn(1, 9, 8, 7) * 400)
    expected = ScaleIntensityRanged("image", *window, 0.0, 1.0, clip=True)({"image": image.clone()})["image"]
    found = WindowIntensityd("image", window)({"image": image})["image"]
    assert torch.allclose(found, expected, atol=1e-6) and found.affine.equal(expected.affine)


def test_the_volume_is_not_copied_and_other_keys_stay() -> None:
    image, label = torch.tensor([-500.0, 50.0, 700.0]), torch.tensor([300])
    done = WindowIntensityd(["image", "missing"], (0, 100), allow_missing_keys=True)({"image": image, "label": label})
    assert done["image"].data_ptr() == image.data_ptr() and done["image"].tolist() == [0.0, 0.5, 1.0]
    assert done["label"] is label


@pytest.mark.parametrize("window", [(5, 5), (250, -175)])
def test_an_empty_window_is_refused(window: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="window"):
        WindowIntensityd("image", window)
