"""Chest X-rays into the network: loader and cache of vit_cxr14's pre-training, MONAI's with and without a cache."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, PersistentDataset
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandFlipd,
    RandSpatialCropd,
    Resized,
    ScaleIntensityRanged,
)

from custom.data.phantoms.cxr_files import write_nih

from .configs import bundle_config
from .measure import Measured, Row, compare, take_turns

PATIENTS, COUNT = 12, 256  # about two images a patient, each under as many names as makes an epoch of COUNT
DECODING = "MONAI's Dataset, which decodes every epoch"
PERSISTENT = "MONAI's PersistentDataset of decoded and resized images"
GOALS = {("later epochs", DECODING): "times >= 5"}


def measure(pairs: int) -> list[Row]:
    """Images a second in the first epoch, which fills the caches, and in later ones; without workers and by default.

    This process computes in one thread, as workers do.
    """
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_images(Path(folder))
        for workers in (0, int(config(files)["num_workers"])):
            sides = {
                "ours": partial(ours, files, workers),
                DECODING: partial(baseline, files, workers),
                PERSISTENT: partial(baseline, files, workers, persistent=True),
            }
            measured = take_turns(sides, pairs)
            for epoch, theirs in product(("later epochs", "first epoch"), (DECODING, PERSISTENT)):
                name = f"chest X-rays, {workers} workers, {epoch} ({theirs.split()[1].rstrip(',')})"
                goal = GOALS.get((epoch, theirs), "")
                rows.append(compare(name, epoch, "images/s", measured, theirs, goal, more_is_better=True))
    torch.set_num_threads(threads)
    return rows


def write_images(folder: Path) -> list[str]:
    """COUNT names of PNG files of 1024 x 1024 pixels; no cache knows that some are the same file."""
    write_nih(folder, PATIENTS, shape=(1024, 1024))
    written = sorted((folder / "images").iterdir())
    names = [folder / f"{index:03}.png" for index in range(COUNT)]
    for index, name in enumerate(names):
        name.hardlink_to(written[index % len(written)])
    return [str(name) for name in names]


def config(files: list[str], **options: Any) -> ConfigParser:
    """The configs of vit_cxr14's pre-training on these images."""
    data = {"train#data": [{"image": file, "patient": ""} for file in files]}
    return bundle_config("vit_cxr14", "train", "pretrain", **data, **options)


def ours(files: list[str], workers: int) -> Measured:
    """The bundle's own loader, from an empty cache."""
    with tempfile.TemporaryDirectory() as cache_dir:
        parser = config(files, num_workers=workers, cache_dir=cache_dir)
        start = time.perf_counter()
        loader = parser.get_parsed_content("train#dataloader")
        return two_epochs(loader, start)


def baseline(files: list[str], workers: int, persistent: bool = False) -> Measured:
    """A loader of MONAI's transforms on the same images, in batches of the same size, without or with a cache."""
    options = {"batch_size": config(files)["batch_size"], "num_workers": workers, "persistent_workers": workers > 0}
    data, chain = [{"image": file} for file in files], transforms(config(files))
    with tempfile.TemporaryDirectory() as cache_dir:
        start = time.perf_counter()
        dataset = PersistentDataset(data, chain, cache_dir) if persistent else Dataset(data, chain)
        return two_epochs(DataLoader(dataset, shuffle=True, **options), start)


def transforms(parser: ConfigParser) -> Compose:
    """What the bundle does to an image, in MONAI's transforms; all before the random crop is the same every epoch."""
    low, high = parser.get_parsed_content("crop_scale")
    size, resize = parser.get_parsed_content("img_size"), parser.get_parsed_content("resize")
    return Compose(
        [
            LoadImaged("image"),
            EnsureChannelFirstd("image"),
            Resized("image", (resize, resize)),
            RandSpatialCropd(
                "image", [round(resize * low**0.5)] * 2, [round(resize * high**0.5)] * 2, random_size=True
            ),
            Resized("image", (size, size), mode="bilinear"),
            RandFlipd("image", 0.5, 0),
            ScaleIntensityRanged("image", 0, 255, -0.5 / 0.225, 0.5 / 0.225),
        ]
    )


def two_epochs(loader: DataLoader, start: float) -> Measured:
    """Images a second from `start` to the end of the first epoch, and in the second."""
    count, found = len(loader.dataset), {}
    for epoch, name in enumerate(("first epoch", "later epochs")):
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        seen = sum(len(batch["image"]) for batch in loader)
        if seen != count:
            raise RuntimeError(f"an epoch gave {seen} of {count} images")
        end = time.perf_counter()
        found[name] = count / (end - start)
        start = end
    return found
