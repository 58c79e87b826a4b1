"""The cache of 2D images: decoded once, complete or absent, the same items whatever the workers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose, RandFlipd, ScaleIntensityRanged
from PIL import Image
from torch.utils.data import DataLoader

from custom.data import EpochSampler, ImageDataset, images
from custom.errors import InputError
from custom.transforms import LoadRadiographd, RandAugmentd, RandResizedCropd


@pytest.fixture
def data(tmp_path: Path) -> list[dict]:
    state = np.random.default_rng(0)
    for index in range(7):
        Image.fromarray(state.integers(0, 255, (24, 20), np.uint8)).save(tmp_path / f"{index}.png")
    return [{"image": str(tmp_path / f"{i}.png"), "patient": str(i), "label": [i % 2, 0]} for i in range(7)]


def dataset(data: list[dict], folder: Path, random: bool = True, size: int = 16) -> ImageDataset:
    chain = [RandResizedCropd("image", 8), RandFlipd("image", 0.5, 1), RandAugmentd("image")] if random else []
    chain.append(ScaleIntensityRanged("image", 0, 255, 0, 1))
    return ImageDataset(data, folder / "cache", [LoadRadiographd("image", size)], chain)


def test_items_are_the_decoded_images_with_their_labels(data: list[dict], tmp_path: Path) -> None:
    item = dataset(data, tmp_path, random=False)[3]
    expected = LoadRadiographd("image", 16)({"image": data[3]["image"]})["image"] / 255
    assert torch.allclose(item["image"], expected.as_tensor(), atol=1e-6)
    assert item["label"].tolist() == [1, 0] and item["patient"] == "3" and item["source"] == data[3]["image"]


def test_each_image_is_decoded_once(data: list[dict], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "SHARD", 3)  # 7 images in three files
    made = dataset(data, tmp_path)
    first = [item["image"] for item in made]
    assert len(list((tmp_path / "cache").iterdir())) == 3
    monkeypatch.setattr(LoadRadiographd, "__call__", None)  # decoding again would fail
    again = [item["image"] for item in dataset(data, tmp_path)]
    assert len(first) == 7 and all(map(torch.equal, first, again))


def test_a_changed_image_or_size_is_decoded_again(data: list[dict], tmp_path: Path) -> None:
    before = dataset(data, tmp_path, random=False)[0]["image"]
    Image.fromarray(np.random.default_rng(9).integers(0, 255, (24, 21), np.uint8)).save(data[0]["image"])
    assert not torch.equal(before, dataset(data, tmp_path, random=False)[0]["image"])
    assert dataset(data, tmp_path, random=False, size=12)[0]["image"].shape == (1, 12, 12)


def test_a_killed_build_leaves_nothing_that_is_read(data: list[dict], tmp_path: Path) -> None:
    Path(data[6]["image"]).write_text("damaged")
    with pytest.raises(InputError, match=r"6\.png"):
        dataset(data, tmp_path)
    assert not list((tmp_path / "cache").glob("*.npy"))


def test_what_is_drawn_depends_on_seed_epoch_and_image_alone(data: list[dict], tmp_path: Path) -> None:
    made = dataset(data, tmp_path)
    alone = made[7 * 4 + 2]["image"]  # image 2 in epoch 4
    sampler = EpochSampler(made, seed=1)
    sampler.set_epoch(4)
    for workers in (0, 2):
        loader = DataLoader(made, batch_size=3, sampler=sampler, num_workers=workers)
        found = {name: image for batch in loader for name, image in zip(batch["source"], batch["image"], strict=True)}
        assert torch.equal(found[data[2]["image"]], alone) and len(found) == 7
    assert not torch.equal(made[2]["image"], alone)


def test_a_worker_is_not_sent_the_pixels(data: list[dict], tmp_path: Path) -> None:
    made = dataset(data, tmp_path, size=256)
    list(made)
    assert len(pickle.dumps(made)) < 50_000 < 7 * 256 * 256
    assert torch.equal(pickle.loads(pickle.dumps(made))[1]["image"], made[1]["image"])


def test_an_empty_list_a_random_preprocessing_and_mixed_shapes_are_refused(data: list[dict], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        dataset([], tmp_path)
    with pytest.raises(InputError, match="RandFlipd"):
        ImageDataset(data, tmp_path, Compose([RandFlipd("image")]), [])
    shapes = iter([(1, 4, 4), (1, 4, 4), (1, 5, 4), *[(1, 4, 4)] * 6])
    with pytest.raises(InputError, match=r"shape \(1, 5, 4\)"):
        ImageDataset(data, tmp_path, [lambda item: {"image": torch.ones(next(shapes), dtype=torch.uint8)}], [])
    with pytest.raises(InputError, match="float32 after preprocessing"):
        ImageDataset(data, tmp_path, [lambda item: {"image": torch.ones(1, 4, 4)}], [])
