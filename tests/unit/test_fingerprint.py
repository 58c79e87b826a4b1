"""The name of a cache entry: another one for other files, transforms or code, the same one otherwise."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    CropForegroundd,
    EnsureTyped,
    Lambdad,
    NormalizeIntensityd,
    Orientationd,
    ScaleIntensityRanged,
    Spacingd,
)

from custom.data import VolumeCache, fingerprint
from custom.transforms import LoadVolumed

KEYS = ["image", "label"]


@pytest.fixture
def case(tmp_path: Path) -> dict[str, str]:
    files = {key: tmp_path / f"{key}_1.nii.gz" for key in KEYS}
    for seed, path in enumerate(files.values()):
        voxels = np.random.default_rng(seed).integers(0, 200, (12, 14, 16)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.5, 1.5, 2.0, 1.0])), path)
    return {key: str(path) for key, path in files.items()}


def test_a_copied_file_uses_the_same_entry(tmp_path: Path, case: dict[str, str]) -> None:
    copy = {"image": str(shutil.copy(case["image"], tmp_path / "copy.nii.gz"))}
    cache = VolumeCache(tmp_path, EnsureTyped("image"))
    assert cache.directory({"image": case["image"]}) == cache.directory(copy)


def test_exchanged_files_use_another_entry(tmp_path: Path, case: dict[str, str]) -> None:
    cache = VolumeCache(tmp_path, EnsureTyped("image"))
    assert cache.directory(case) != cache.directory({"image": case["label"], "label": case["image"]})


def above(limit: float) -> Callable[[Any], Any]:
    return lambda image: image > limit


CHANGES = {
    "a number": (ScaleIntensityRanged("image", -175, 250, 0, 1), ScaleIntensityRanged("image", -175, 251, 0, 1)),
    "a sequence": (Spacingd(KEYS, (1.5, 1.5, 2)), Spacingd(KEYS, (1.5, 1.5, 2.5))),
    "a nested mode": (
        Spacingd(KEYS, 1.5, mode=("bilinear", "nearest")),
        Spacingd(KEYS, 1.5, mode=("bilinear", "bilinear")),
    ),
    "a key": (EnsureTyped("image"), EnsureTyped("label")),
    "a type": (EnsureTyped("image", dtype=torch.float32), EnsureTyped("image", dtype=torch.float16)),
    "an array": (
        NormalizeIntensityd("image", np.zeros(3), np.ones(3)),
        NormalizeIntensityd("image", np.zeros(3), np.full(3, 2)),
    ),
    "a lambda": (Lambdad("image", lambda image: image + 1), Lambdad("image", lambda image: image + 2)),
    "a captured value": (CropForegroundd(KEYS, "image", above(0)), CropForegroundd(KEYS, "image", above(-1))),
    "the class": (EnsureTyped("image"), NormalizeIntensityd("image")),
    "a loader's channels": (LoadVolumed("image"), LoadVolumed("image", in_channels=4)),
    "the order": ([EnsureTyped("image"), EnsureTyped("label")], [EnsureTyped("label"), EnsureTyped("image")]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_parameter_never_reuses_an_entry(tmp_path: Path, case: dict[str, str], change: str) -> None:
    first, second = (VolumeCache(tmp_path, transforms).directory(case) for transforms in CHANGES[change])
    assert first != second


def test_another_dtype_or_release_never_reuses_an_entry(
    tmp_path: Path, case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    directories = [VolumeCache(tmp_path, EnsureTyped("image"), dtype).directory(case) for dtype in ("float16", "int16")]
    monkeypatch.setattr(fingerprint, "__version__", "other")
    directories.append(VolumeCache(tmp_path, EnsureTyped("image")).directory(case))
    monkeypatch.setattr(fingerprint.monai, "__version__", "other")
    directories.append(VolumeCache(tmp_path, EnsureTyped("image")).directory(case))
    assert len(set(directories)) == 4


def test_running_the_transforms_does_not_change_their_description(case: dict[str, str]) -> None:
    transforms = Compose(
        [
            LoadVolumed(KEYS),
            Orientationd(KEYS, "RAS"),
            CropForegroundd(KEYS, "image"),
            Spacingd(KEYS, (1.5, 1.5, 2)),
            NormalizeIntensityd("image"),
        ]
    )
    before = fingerprint.describe(transforms)
    transforms(case)
    assert fingerprint.describe(transforms) == before == fingerprint.describe(pickle.loads(pickle.dumps(transforms)))
