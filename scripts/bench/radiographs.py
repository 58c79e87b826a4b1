"""Chest X-rays into the network: the cache and loader of vit_cxr14's pre-training, and MONAI's parts decoding PNG."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
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

from .measure import ROOT, Measured, Row, compare, take_turns

CONFIGS = ROOT / "bundles" / "vit_cxr14" / "configs"
PATIENTS, COUNT = 12, 256  # about two images a patient, each listed as often as makes an epoch of COUNT


def measure(pairs: int) -> list[Row]:
    """Images a second in the first epoch, which fills the cache, and in later ones; without workers and by default.

    This process computes in one thread, as workers do.
    """
    rows, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_nih(Path(folder), PATIENTS, shape=(1024, 1024))
        files = sorted(str(path) for path in (Path(folder) / "images").iterdir())
        listed = [files[index % len(files)] for index in range(COUNT)]
        for workers in (0, int(bundle(listed)["num_workers"])):
            measured = take_turns(lambda n=workers: ours(listed, n), lambda n=workers: baseline(listed, n), pairs)
            for epoch, goal in (("later epochs", ">= 5"), ("first epoch", "")):
                name = f"chest X-rays, {workers} workers, {epoch}"
                rows.append(compare(name, epoch, "images/s", measured, goal, more_is_better=True))
    torch.set_num_threads(threads)
    return rows


def bundle(files: list[str], **options: Any) -> ConfigParser:
    """The configs of vit_cxr14's pre-training on these images."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "pretrain.json")])
    parser.update({"train#data": [{"image": file, "patient": ""} for file in files]} | options)
    return parser


def ours(files: list[str], workers: int) -> Measured:
    """The bundle's own loader, from an empty cache."""
    with tempfile.TemporaryDirectory() as cache_dir:
        parser = bundle(files, num_workers=workers, cache_dir=cache_dir)
        start = time.perf_counter()
        loader = parser.get_parsed_content("train#dataloader")
        return two_epochs(loader, start)


def baseline(files: list[str], workers: int) -> Measured:
    """A loader of MONAI's transforms on the same images, in batches of the same size."""
    parser = bundle(files)
    low, high = parser.get_parsed_content("crop_scale")
    size, resize = parser.get_parsed_content("img_size"), parser.get_parsed_content("resize")
    chain = [
        LoadImaged("image"),
        EnsureChannelFirstd("image"),
        Resized("image", (resize, resize)),
        RandSpatialCropd("image", [round(resize * low**0.5)] * 2, [round(resize * high**0.5)] * 2, random_size=True),
        Resized("image", (size, size), mode="bilinear"),
        RandFlipd("image", 0.5, 0),
        ScaleIntensityRanged("image", 0, 255, -0.5 / 0.225, 0.5 / 0.225),
    ]
    start = time.perf_counter()
    options = {"batch_size": parser["batch_size"], "num_workers": workers, "persistent_workers": workers > 0}
    dataset = Dataset([{"image": file} for file in files], Compose(chain))
    return two_epochs(DataLoader(dataset, shuffle=True, **options), start)


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
