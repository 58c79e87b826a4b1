"""Crops for pre-training, 96 x 96 x 96 voxels of CT of 512 x 512 x 150: our cache and MONAI's CacheDataset.

The baseline of the published code crops around labels, which ours does not need; the other has images alone, as ours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import CacheDataset
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureChannelFirstd,
    LoadImaged,
    Orientationd,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandSpatialCropSamplesd,
    ScaleIntensityRanged,
    Spacingd,
    ToTensord,
)

from custom.data.phantoms.ct import generate_ct

from .configs import bundle_config
from .measure import Measured, Row, compare, give_back, in_child, status_mib, take_turns

SHAPE, SPACING = (512, 512, 150), (0.75, 0.75, 2.5)
CASES, ITEMS = 8, 24  # besides the case and the item that warm up
KEYS, ROI = ["image", "label"], (96, 96, 96)
PUBLISHED = "MONAI's CacheDataset, crops around labels, as the published code"
PLAIN = "MONAI's CacheDataset, images alone, crops at random"
METRICS = {
    "crop for pre-training: CPU time": ("ms", "ms", "ours <= 2.5, times >= 30"),
    "crop for pre-training: memory of each case": ("case MiB", "MiB", "ours <= 1"),
    "crop for pre-training: CPU time to prepare a case": ("build s", "s", "times >= 2"),
}
Case = dict[str, str]
Crops = Sequence[list[dict[str, Any]]]


def measure(pairs: int) -> list[Row]:
    """Time of a crop, memory of a case that is open, and time to prepare a case."""
    with tempfile.TemporaryDirectory() as folder:
        cases = write_cases(Path(folder))
        sides = {
            "ours": partial(in_child, ours, cases),
            PUBLISHED: partial(in_child, baseline, cases, True),
            PLAIN: partial(in_child, baseline, cases, False),
        }
        measured = take_turns(sides, pairs, warm_up=False)
    return [
        compare(f"{name} (against {short})", metric, unit, measured, theirs, goal if theirs == PUBLISHED else "")
        for short, theirs in (("published code", PUBLISHED), ("images alone", PLAIN))
        for name, (metric, unit, goal) in METRICS.items()
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
    """The dataset of mae_pretrain_ct's train.json, which needs no labels; its memory is of opening the cache."""
    with tempfile.TemporaryDirectory() as cache_dir:
        our_dataset(cases[:1], cache_dir)[0]  # what only the first call needs
        start = time.process_time()
        our_dataset(cases[1:], cache_dir)
        build = (time.process_time() - start) / CASES
        before = anonymous_mib()
        dataset = our_dataset(cases[1:], cache_dir)
        return {"build s": build, "ms": crop_ms(dataset), "case MiB": held_mib(before)}


def our_dataset(cases: list[Case], cache_dir: str) -> Crops:
    """As the bundle makes it, for a list of cases."""
    own = {"train#data": [{"image": case["image"]} for case in cases], "cache_dir": cache_dir, "num_workers": 0}
    return bundle_config("mae_pretrain_ct", "train", **own).get_parsed_content("train#dataset")


def baseline(cases: list[Case], labels: bool) -> Measured:
    """CacheDataset with or without labels."""
    their_dataset(cases[:1], labels)[0]
    before, start = anonymous_mib(), time.process_time()
    dataset = their_dataset(cases[1:], labels)
    build = (time.process_time() - start) / CASES
    return {"build s": build, "ms": crop_ms(dataset), "case MiB": held_mib(before)}


def their_dataset(cases: list[Case], labels: bool) -> Crops:
    """With labels as the paper's code does it; without, what a user of MONAI would write for pre-training."""
    keys, modes = (KEYS, ["bilinear", "nearest"]) if labels else (["image"], ["bilinear"])
    around_labels = RandCropByPosNegLabeld(keys, "label", ROI, pos=1, neg=1, num_samples=4, image_key="image")
    at_random = RandSpatialCropSamplesd(keys, ROI, num_samples=4, random_size=False)
    transforms = [
        LoadImaged(keys),
        EnsureChannelFirstd(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=(1.5, 1.5, 2.0), mode=modes),
        ScaleIntensityRanged("image", a_min=-175, a_max=250, b_min=0.0, b_max=1.0, clip=True),
        CropForegroundd(keys, source_key="image"),
        around_labels if labels else at_random,
        *(RandFlipd(keys, prob=0.2, spatial_axis=axis) for axis in range(3)),
        *([ToTensord(keys)] if labels else []),
    ]
    data = [{key: case[key] for key in keys} for case in cases]
    return CacheDataset(data, Compose(transforms), progress=False)


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
    give_back()
    return status_mib("RssAnon")
