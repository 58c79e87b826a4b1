"""Crops: where they lie, that they depend on nothing but their index."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.transforms import EnsureTyped, RandFlipd, RandRotate90d, RandShiftIntensityd
from monai.transforms.utils import correct_crop_centers

from custom.data import CachedVolume, CropDataset
from custom.data.crops import crop_start, random_state, read_crop
from custom.errors import InputError
from custom.transforms import LoadVolumed

SHAPE = (16, 18, 20)
ROI = (8, 8, 8)
FLIPS = [RandFlipd(["image", "label", "valid"], prob=0.5, spatial_axis=axis) for axis in range(3)]


def make_volume(image: np.ndarray, label: np.ndarray | None = None) -> CachedVolume:
    foreground = (image > 0).any(axis=0)
    positive = np.zeros_like(foreground) if label is None else label.any(axis=0)
    masks = (foreground, positive, foreground & ~positive)
    return CachedVolume(image, label, *map(np.argwhere, masks), np.eye(4), {"source": "img0005.nii.gz"})


@pytest.fixture
def cases(tmp_path: Path) -> list[dict[str, str]]:
    items = []
    for index in range(3):
        rng = np.random.default_rng(index)
        item = {key: str(tmp_path / f"{key}{index}.nii.gz") for key in ("image", "label")}
        nibabel.save(nibabel.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), np.eye(4)), item["image"])
        nibabel.save(nibabel.Nifti1Image(rng.integers(0, 3, SHAPE).astype(np.uint8), np.eye(4)), item["label"])
        items.append(item)
    return items


def make_dataset(cases: list[dict[str, str]], **options: Any) -> CropDataset:
    cache_dir = Path(cases[0]["image"]).parent / "cache"
    options = {"num_samples": 2, "augmentation": [*FLIPS, RandShiftIntensityd("image", 0.1, prob=1.0)]} | options
    return CropDataset(cases, cache_dir, [LoadVolumed(["image", "label"])], ROI, **options)


def images(items: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([item["image"] for item in items])


def test_items_are_plain_tensors_of_the_stated_types(cases: list[dict[str, str]]) -> None:
    dataset = make_dataset(cases, augmentation=[*FLIPS, RandRotate90d(["image", "label", "valid"], prob=1.0)])
    assert len(dataset) == 3 and dataset.data == cases
    for item in dataset[0]:
        assert {key: (value.shape, value.dtype) for key, value in item.items()} == {
            "image": ((1, *ROI), torch.float32),
            "label": ((1, *ROI), torch.uint8),
            "valid": ((1, *ROI), torch.bool),
        }
        assert not any(isinstance(value, MetaTensor) for value in item.values())


def test_image_and_label_of_a_crop_come_from_the_same_place(cases: list[dict[str, str]]) -> None:
    place = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(1, *SHAPE)
    volume = make_volume(place, (place % 251).astype(np.uint8))
    crop = read_crop(volume, (3, 5, 7), ROI)
    assert np.array_equal(crop["image"], place[:, 3:11, 5:13, 7:15])
    assert torch.equal(crop["image"] % 251, crop["label"].float())


def test_the_same_index_gives_the_same_crops_whatever_came_before(cases: list[dict[str, str]]) -> None:
    dataset = make_dataset(cases)
    first = images(dataset[1])
    _ = dataset[0], dataset[4]
    assert torch.equal(first, images(dataset[1]))
    assert torch.equal(first, images(make_dataset(cases)[1]))


def test_epoch_sample_and_seed_each_give_other_crops(cases: list[dict[str, str]]) -> None:
    dataset = make_dataset(cases)
    crops = [*dataset[1], *dataset[1 + 3], *dataset[1 + 6], *make_dataset(cases, seed=1)[1]]
    assert len({item["image"].numpy().tobytes() for item in crops}) == len(crops)


def test_an_index_past_the_end_is_the_same_case(cases: list[dict[str, str]]) -> None:
    voxels = set(nibabel.load(cases[1]["image"]).get_fdata().astype(np.float16).astype(np.float32).ravel().tolist())
    for item in make_dataset(cases, augmentation=None)[1 + 5 * 3]:
        assert set(item["image"].ravel().tolist()) <= voxels


@pytest.mark.parametrize("num_workers", [1, 2])
def test_crops_do_not_depend_on_the_number_of_workers(cases: list[dict[str, str]], num_workers: int) -> None:
    dataset = make_dataset(cases)
    expected = [images(dataset[index]) for index in range(3)]
    loader = DataLoader(dataset, batch_size=1, num_workers=num_workers)
    for batch, crops in zip(loader, expected, strict=True):
        assert torch.equal(batch["image"], crops)


def test_a_pickled_dataset_draws_the_same_crops(cases: list[dict[str, str]]) -> None:
    dataset = make_dataset(cases)
    assert torch.equal(images(pickle.loads(pickle.dumps(dataset))[2]), images(dataset[2]))


@pytest.mark.parametrize("roi", [(8, 8, 8), (5, 6, 7), (16, 17, 20)])
def test_centres_move_inward_as_monai_moves_them(roi: tuple[int, ...]) -> None:
    for corner in np.ndindex(2, 2, 2):
        centre = np.array(corner) * (np.array(SHAPE) - 1)
        image = np.zeros((1, *SHAPE))
        image[(0, *centre)] = 1
        start = crop_start(make_volume(image), "foreground", roi, random_state(0))
        expected = correct_crop_centers(centre.tolist(), roi, SHAPE)
        assert start == tuple(np.subtract(expected, np.floor_divide(roi, 2)))


def test_foreground_crops_are_centred_on_foreground_and_see_no_label() -> None:
    image = np.zeros((1, 40, 40, 40))
    image[0, 12:14, 20:23, 25] = 1
    label = (np.random.default_rng(0).random(image.shape) > 0.5).astype(np.uint8)
    labelled, plain = make_volume(image, label), make_volume(image)
    starts = [crop_start(labelled, "foreground", ROI, random_state(i)) for i in range(200)]
    assert {tuple(np.add(start, 4)) for start in starts} == set(map(tuple, np.argwhere(image[0])))
    assert starts == [crop_start(plain, "foreground", ROI, random_state(i)) for i in range(200)]


def test_label_crops_are_centred_on_labels_half_of_the_time() -> None:
    image = np.ones((1, 40, 40, 40))
    label = np.zeros(image.shape, dtype=np.uint8)
    label[0, 20, 20, 20] = 5
    volume = make_volume(image, label)
    starts = [crop_start(volume, "label", ROI, random_state(i)) for i in range(400)]
    labelled = sum(start == (16, 16, 16) for start in starts)
    assert 160 < labelled < 240


@pytest.mark.parametrize("labelled", [0, 1])
def test_label_crops_are_foreground_crops_where_one_kind_of_voxel_is_missing(labelled: int) -> None:
    image = np.zeros((1, 40, 40, 40))
    image[0, 20, 20, 20] = 1
    volume = make_volume(image, (image * labelled).astype(np.uint8))
    assert {crop_start(volume, "label", ROI, random_state(i)) for i in range(20)} == {(16, 16, 16)}


def test_uniform_crops_reach_every_position() -> None:
    volume = make_volume(np.zeros((1, 9, 10, 8)))
    starts = {crop_start(volume, "uniform", ROI, random_state(i)) for i in range(100)}
    assert starts == {(h, w, 0) for h in range(2) for w in range(3)}


@pytest.mark.parametrize("crop", ["foreground", "label", "uniform"])
def test_a_volume_smaller_than_the_roi_is_padded_around_and_marked(crop: str) -> None:
    image = np.ones((2, 4, 20, 7))
    volume = make_volume(image, np.ones((1, 4, 20, 7), dtype=np.uint8))
    sample = read_crop(volume, crop_start(volume, crop, ROI, random_state(0)), ROI)
    valid = torch.zeros((1, *ROI), dtype=torch.bool)
    valid[:, 2:6, :, 0:7] = True
    assert torch.equal(sample["valid"], valid)
    assert torch.equal(sample["image"], valid.expand(2, *ROI).float())
    assert torch.equal(sample["label"], valid.to(torch.uint8))


def test_flips_move_the_valid_mask_with_the_image(tmp_path: Path) -> None:
    path = str(tmp_path / "image.nii.gz")
    nibabel.save(
        nibabel.Nifti1Image(np.random.default_rng(0).uniform(1, 2, (5, 8, 8)).astype(np.float32), np.eye(4)), path
    )
    flip = RandFlipd(["image", "valid"], prob=1.0, spatial_axis=0)
    dataset = CropDataset([{"image": path}], tmp_path / "cache", [LoadVolumed("image")], ROI, augmentation=[flip])
    for item in dataset[0]:
        assert torch.equal(item["image"] > 0, item["valid"])
        assert item["valid"][0, :, 0, 0].tolist() == [False, False, True, True, True, True, True, False]


def test_a_plane_is_cropped_like_a_volume() -> None:
    image = np.arange(1.0, 201).reshape(1, 10, 20)
    sample = read_crop(
        make_volume(image), crop_start(make_volume(image), "foreground", (4, 30), random_state(3)), (4, 30)
    )
    assert sample["image"].shape == sample["valid"].shape == (1, 4, 30)
    assert sample["valid"].sum() == 4 * 20


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"crop": "random"}, "crop 'random' is unknown"), ({"crop": "label"}, r"needs labels but .*image0\.nii\.gz")],
)
def test_faulty_options_are_refused(cases: list[dict[str, str]], options: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        make_dataset([{"image": case["image"]} for case in cases], **options)


def test_label_crops_without_a_loaded_label_are_refused() -> None:
    with pytest.raises(InputError, match=r"needs the label of img0005\.nii\.gz"):
        crop_start(make_volume(np.ones((1, *SHAPE))), "label", ROI, random_state(0))


def test_an_empty_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        CropDataset([], tmp_path, [EnsureTyped("image")], ROI)
