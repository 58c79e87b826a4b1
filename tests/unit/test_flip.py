"""Random flips of crops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.errors import InputError
from custom.transforms import RandFlipAxesd

KEYS = ["image", "valid"]


def sample() -> dict[str, torch.Tensor]:
    image = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    return {"image": image, "valid": image[:1] > 30, "name": "case"}


def test_all_keys_are_flipped_alike_and_the_rest_stays() -> None:
    flip = RandFlipAxesd(KEYS, prob=0.5).set_random_state(seed=0)
    for _ in range(20):
        found = flip(sample())
        assert torch.equal(found["valid"], found["image"][:1] > 30) and found["name"] == "case"


def test_each_axis_is_flipped_as_often_as_asked() -> None:
    flip = RandFlipAxesd("image", prob=0.2).set_random_state(seed=0)
    firsts = [flip(sample())["image"][0] for _ in range(1000)]
    steps = torch.stack(
        [torch.stack([x[1, 0, 0] - x[0, 0, 0], x[0, 1, 0] - x[0, 0, 0], x[0, 0, 1] - x[0, 0, 0]]) for x in firsts]
    )
    assert np.allclose((steps < 0).float().mean(0), 0.2, atol=0.04)
    together = (steps < 0).all(1).float().mean()
    assert together < 0.03  # drawn for each axis on its own


def test_nothing_or_everything_is_flipped_at_the_ends() -> None:
    image = sample()["image"]
    assert torch.equal(RandFlipAxesd("image", prob=0.0)(sample())["image"], image)
    assert torch.equal(RandFlipAxesd("image", prob=1.0)(sample())["image"], image.flip(1, 2, 3))


def test_axes_that_were_not_named_stay() -> None:
    image = sample()["image"]
    assert torch.equal(RandFlipAxesd("image", prob=1.0, axes=[1])(sample())["image"], image.flip(2))


def test_metadata_that_would_turn_wrong_is_refused() -> None:
    with pytest.raises(InputError, match="use RandFlipd"):
        RandFlipAxesd("image", prob=1.0)({"image": MetaTensor(torch.zeros(1, 2, 2, 2))})
