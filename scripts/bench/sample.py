"""Crops for pre-training, 96 x 96 x 96 voxels of CT of 512 x 512 x 150: our cache and MONAI's CacheDataset."""

from __future__ import annotations

import ctypes
import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.bundle import ConfigParser
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    ScaleIntensityRanged,
    Spacingd,
    ToTensord,
)

from custom.data.phantoms.ct import generate_ct

from .measure import ROOT, Measured, Row, compare, in_child, take_turns

SHAPE, SPACING = (512, 512, 150), (0.75, 0.75, 2.5)
CASES, ITEMS = 8, 24  # besides the case and the item that warm up
KEYS = ["image", "label"]
Case = dict[str, str]


def measure(pairs: int) -> list[Row]:
    """Time of a crop, memory of a case that is open, and time to prepare a case."""
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder))
        measured = take_turns(lambda: in_child(ours, cases), lambda: in_child(baseline, cases), pairs, warm_up=False)
    return [
        compare("crop for pre-training: CPU time", "ms", "ms", measured, "<= 2.5 ms, >= 30"),
        compare("crop for pre-training: memory of each case", "case MiB", "MiB", measured, "<= 1 MiB"),
        compare("crop for pre-training: CPU time to prepare a case", "build s", "s", measured, ">= 2"),
    ]


def write_cases(folder: Path) -> list[Case]:
    """CT with labels as .nii.gz; the cases differ by a few HU, so that each is prepared for itself."""
    image, label = generate_ct(0, 0, SHAPE, SPACING)
    affine, cases = np.diag([*SPACING, 1.0]), []
    for index in range(CASES + 1):
        cases.append({key: str(folder / f"{key}{index}.nii.gz") for key in KEYS})
        nibabel.save(nibabel.Nifti1Image(image + np.int16(index), affine), cases[-1]["image"])
        nibabel.save(nibabel.Nifti1Image(label, affine), cases[-1]["label"])
    return cases


def ours(cases: list[Case]) -> Measured:
    """The dataset of mae_pretrain_ct's train.json, which needs no labels."""
    images = [{"image": case["image"]} for case in cases]
    with tempfile.TemporaryDirectory() as cache_dir:
        bundle_dataset(images[:1], cache_dir)[0]  # what only the first call needs
        start = time.process_time()
        bundle_dataset(images[1:], cache_dir)
        build = (time.process_time() - start) / CASES
        before = anonymous_mib()
        dataset = bundle_dataset(images[1:], cache_dir)
        return {"build s": build, "ms": crop_ms(dataset), "case MiB": held_mib(before)}


def bundle_dataset(cases: list[Case], cache_dir: str) -> Sequence[list[dict[str, Any]]]:
    """As the bundle makes it, for a list of cases."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / "mae_pretrain_ct" / "configs" / "train.json"))
    parser["train"]["data"] = cases
    parser.update({"cache_dir": cache_dir, "num_workers": 0})
    return parser.get_parsed_content("train#dataset")


def baseline(cases: list[Case]) -> Measured:
    """CacheDataset with the transforms of the paper's code, which crops around labels."""
    flips = [RandFlipd(KEYS, prob=0.2, spatial_axis=axis) for axis in range(3)]
    transforms = [
        LoadImaged(KEYS),
        EnsureChannelFirstd(KEYS),
        Orientationd(KEYS, axcodes="RAS", labels=None),
        Spacingd(KEYS, pixdim=(1.5, 1.5, 2.0), mode=("bilinear", "nearest")),
        ScaleIntensityRanged("image", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
        CropForegroundd(KEYS, source_key="image"),
        RandCropByPosNegLabeld(KEYS, "label", (96, 96, 96), pos=1, neg=1, num_samples=4, image_key="image"),
        *flips,
        ToTensord(KEYS),
    ]
    CacheDataset(cases[:1], Compose(transforms))[0]
    before, start = anonymous_mib(), time.process_time()
    dataset = CacheDataset(cases[1:], Compose(transforms))
    build = (time.process_time() - start) / CASES
    return {"build s": build, "ms": crop_ms(dataset), "case MiB": held_mib(before)}


def crop_ms(dataset: Sequence[list[dict[str, Any]]]) -> float:
    """CPU time of one crop, all cases in turn."""
    crops = len(dataset[0])
    start = time.process_time()
    for item in range(ITEMS):
        dataset[item % CASES]
    return 1000 * (time.process_time() - start) / (ITEMS * crops)


def held_mib(before: float) -> float:
    """Anonymous memory that each case takes since `before`; 1 MiB for all of them is too little to be measured."""
    return max(anonymous_mib() - before, 1.0) / CASES


def anonymous_mib() -> float:
    """Memory of this process that no file backs, after giving back what is free (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024
