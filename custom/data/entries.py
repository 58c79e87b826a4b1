"""One case in the volume cache: what an entry holds, and how it is written, moved to its place and read back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor

from ..errors import InputError

# Enough centres that crops hardly repeat, few enough that drawing one does not need the whole mask.
MAX_COORDINATES = 50_000
# Rounding to int16 is fine for Hounsfield units or raw MR intensities; on a scaled 0..1 image it would erase it.
MIN_INT16_RANGE = 50
CENTRES = ("foreground", "positive", "negative")


@dataclass(frozen=True)
class CachedVolume:
    """One preprocessed case; every array is memory-mapped.

    image (C, H, W, D) float16 or int16; label (K, H, W, D) uint8 or None; foreground, positive and negative
    (N, spatial_dims) voxel coordinates, at most 50,000 each: any channel of the image other than 0, any label > 0, and
    foreground without label; affine (4, 4); meta: the image's and label's geometry and file before preprocessing.
    """

    image: np.ndarray
    label: np.ndarray | None
    foreground: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    affine: np.ndarray
    meta: dict[str, Any]


def entry_content(data: Mapping[str, Any], path: str, dtype: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and metadata of an entry from preprocessed `data`, image (C, H, W, D) and optional label (K, H, W, D).

    Raises:
        InputError: every voxel of the image is 0, or values do not fit the stored type; names the case by `path`.
    """
    image = torch.as_tensor(data["image"])
    foreground = (image != 0).any(dim=0).numpy()
    if not foreground.any():
        raise InputError(
            f"{path} has no foreground, every voxel is 0 after preprocessing; leave this case out or change its "
            "intensity range"
        )
    arrays = {"image": stored_image(image, dtype, path)}
    masks = {"foreground": foreground, "positive": np.zeros_like(foreground), "negative": foreground}
    if isinstance(data.get("label"), torch.Tensor):  # still a file name where the transforms do not load it
        arrays["label"] = stored_label(torch.as_tensor(data["label"]), path)
        masks["positive"] = arrays["label"].any(axis=0)
        masks["negative"] = foreground & ~masks["positive"]
    centres = [sample_coordinates(masks[name]) for name in CENTRES]
    arrays["centres"] = np.concatenate(centres)
    return arrays, {"centres": [len(part) for part in centres], **geometry(data["image"])}


def stored_label(label: torch.Tensor, path: str) -> np.ndarray:
    """`label` in contiguous memory as uint8."""
    if label.max() > 255:
        raise InputError(f"the label of {path} has ids up to {int(label.max())}, beyond 255; map them to smaller ids")
    return np.ascontiguousarray(label.numpy().astype(np.uint8))


def geometry(image: MetaTensor) -> dict[str, Any]:
    """Affine after and affine and shape before preprocessing, as JSON types."""
    original = image.meta.get("original_affine", image.affine)
    return {
        "affine": np.asarray(image.affine, dtype=float).tolist(),
        "original_affine": np.asarray(original, dtype=float).tolist(),
        "spatial_shape": [int(size) for size in image.meta.get("spatial_shape", image.shape[1:])],
        "source": Path(image.meta.get("filename_or_obj", "")).name,
    }


def stored_image(image: torch.Tensor, dtype: str, path: str) -> np.ndarray:
    """`image` (C, H, W, D) in contiguous memory as float16, or rounded to int16, where its values allow that."""
    low, high = (float(value) for value in torch.aminmax(image))
    limit = float(np.finfo(np.float16).max) if dtype == "float16" else float(np.iinfo(np.int16).max)
    if not (-limit <= low and high <= limit):
        raise InputError(f"{path} has values from {low:g} to {high:g} after preprocessing, beyond {dtype}; scale them")
    if dtype == "int16":
        if high - low < MIN_INT16_RANGE:
            raise InputError(
                f"{path} spans only {high - low:g} after preprocessing; set the cache's dtype to 'float16'"
            )
        image = image.round()
    return np.ascontiguousarray(image.numpy().astype(dtype))


def sample_coordinates(mask: np.ndarray) -> np.ndarray:
    """Up to 50,000 coordinates (N, spatial_dims) of true voxels in `mask`, each voxel equally likely."""
    indices = np.flatnonzero(mask)
    if len(indices) > MAX_COORDINATES:
        indices = np.random.default_rng(0).choice(indices, MAX_COORDINATES, replace=False)
    coordinates = np.stack(np.unravel_index(indices, mask.shape), axis=1)
    return coordinates.astype(np.min_scalar_type(max(mask.shape)))


def write_entry(directory: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write arrays and meta.json, which lists every file's size, into the new folder `directory`."""
    directory.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(directory / f"{name}.npy", array)
    sizes = {f"{name}.npy": (directory / f"{name}.npy").stat().st_size for name in arrays}
    (directory / "meta.json").write_text(json.dumps({**meta, "sizes": sizes}, indent=1), encoding="utf-8")


def publish_entry(temporary: Path, directory: Path) -> None:
    """Move a finished entry to its place, unless another process was first."""
    try:
        temporary.rename(directory)  # fails where there is an entry already
    except OSError:
        if read_entry(directory) is not None:
            return
        unreadable = temporary.with_name(f"{temporary.name}.old")
        directory.rename(unreadable)
        shutil.rmtree(unreadable, ignore_errors=True)
        temporary.rename(directory)


def read_entry(directory: Path) -> CachedVolume | None:
    """The entry in `directory`, or None where it is missing, incomplete or unreadable."""
    try:
        meta = json.loads((directory / "meta.json").read_text(encoding="utf-8"))
        if any((directory / name).stat().st_size != size for name, size in meta["sizes"].items()):
            return None
        # "c", because torch warns of arrays that cannot be written; what is written never reaches the file
        arrays = {Path(name).stem: np.load(directory / name, mmap_mode="c") for name in meta["sizes"]}
        centres = np.split(arrays["centres"], np.cumsum(meta["centres"])[:-1])
        return CachedVolume(arrays["image"], arrays.get("label"), *centres, np.asarray(meta["affine"]), meta)
    except (OSError, ValueError, KeyError, TypeError):
        return None
