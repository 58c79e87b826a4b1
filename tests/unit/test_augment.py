"""Random resized crops and RandAugment."""

import numpy as np
import pytest
import torch

from custom.transforms import RandAugmentd, RandResizedCropd
from custom.transforms.augment import OPERATIONS, to_picture, to_tensor

IMAGE = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 40, 48), np.uint8))


def test_a_crop_has_the_asked_share_and_shape() -> None:
    transform = RandResizedCropd("image", 16, scale=(0.2, 0.6)).set_random_state(0)
    boxes = [transform.draw_box(100, 120) for _ in range(200)]
    for left, top, right, bottom in boxes:
        wide, high = right - left, bottom - top
        assert left >= 0 and top >= 0 and right <= 120 and bottom <= 100
        assert 0.19 < wide * high / 12000 < 0.61 and 0.73 < wide / high < 1.36
    assert transform({"image": IMAGE})["image"].shape == (1, 16, 16)


def test_the_whole_image_is_only_resized() -> None:
    square = IMAGE[:, :, :40]
    crop = RandResizedCropd("image", 40, scale=(1, 1), ratio=(1, 1)).set_random_state(0)
    assert torch.equal(crop({"image": square})["image"], square)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_keeps_size_and_type_and_does_something(name: str) -> None:
    low_contrast = (IMAGE // 2 + 30).to(torch.uint8)  # so that there is something to equalise
    state = np.random.RandomState(0)
    changed = to_tensor(OPERATIONS[name](to_picture(low_contrast), 0.9, state))
    assert changed.shape == IMAGE.shape and changed.dtype == torch.uint8
    assert torch.equal(changed, low_contrast) == (name == "colour")
    strongest = to_tensor(OPERATIONS[name](to_picture(low_contrast), 1.0, state))
    assert strongest.min() < strongest.max()


def test_rand_augment_is_reproducible_and_can_be_switched_off() -> None:
    drawn = [RandAugmentd("image").set_random_state(3)({"image": IMAGE})["image"] for _ in range(2)]
    assert torch.equal(*drawn)
    assert torch.equal(RandAugmentd("image", prob=0.0)({"image": IMAGE})["image"], IMAGE)
    transform = RandAugmentd("image").set_random_state(0)
    same = sum(torch.equal(transform({"image": IMAGE})["image"], IMAGE) for _ in range(200))
    assert 40 < same < 80  # a quarter has neither operation, and a grey image has no colour to change
