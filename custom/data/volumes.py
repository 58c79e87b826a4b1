"""Deterministic preprocessing once per volume, into memory-mapped arrays from which a crop reads only itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset
from tqdm import tqdm

from ..errors import InputError, find_input_error
from ..files import source_of
from .entries import CachedVolume, entry_content, publish_entry, read_entry, write_entry
from .fingerprint import describe, fingerprint


class VolumeCache:
    """Preprocessed volumes on disk, one directory a case, named by what they were made from.

    An entry is used only for the same file contents, transforms, dtype and versions of MONAI and this package. It is
    built beside its place and moved there in one step, so that several processes may build it at once and a killed
    one leaves nothing that is read later; an entry that cannot be read is built again.

    Args:
        cache_dir: folder for the entries; made when it is missing.
        preprocessing: deterministic MONAI dictionary transforms, from file names to tensors (C, H, W, D).
        dtype: how images are stored, "float16", or "int16" for intensities that are not scaled to a small range.

    Raises:
        InputError: a random transform, another dtype, or (when an entry is built) a faulty case or no space.
    """

    def __init__(self, cache_dir: str | Path, preprocessing: Any, dtype: str = "float16") -> None:
        if dtype not in ("float16", "int16"):
            raise InputError(f"cache dtype {dtype!r} is unknown; use 'float16' or 'int16'")
        self.cache_dir = Path(cache_dir)
        self.preprocessing = deterministic(preprocessing)
        self.dtype = dtype
        # Described before the first run, and not again in a worker: running may leave traces in a transform.
        self._description = describe(self.preprocessing)
        self._directories: dict[tuple[tuple[str, str], ...], Path] = {}

    def directory(self, case: Mapping[str, Any]) -> Path:
        """Where the entry of `case` belongs. The files are hashed the first time."""
        files = tuple((key, str(value)) for key, value in case.items())
        if files not in self._directories:
            self._directories[files] = self.cache_dir / fingerprint(case, self._description, self.dtype)
        return self._directories[files]

    def open(self, case: Mapping[str, Any]) -> CachedVolume:
        """The entry of `case`, built first where it is missing or unreadable."""
        directory = self.directory(case)
        volume = read_entry(directory)
        if volume is None:
            self._build(case, directory)
            volume = read_entry(directory)
        if volume is None:
            raise InputError(f"cache entry {directory} cannot be read back; set cache_dir to another disk")
        return volume

    def prepare(self, cases: Sequence[Mapping[str, Any]], num_workers: int = 0) -> None:
        """Build every missing entry, in `num_workers` threads; a progress bar shows only if there is any."""
        missing = [case for case in cases if read_entry(self.directory(case)) is None]
        if not missing:
            return
        rank, world_size = rank_and_world_size()
        first = rank * len(missing) // world_size  # so that processes begin at different cases
        pool = ThreadPoolExecutor(max(1, num_workers))
        try:
            built = pool.map(self.open, missing[first:] + missing[:first])
            for _ in tqdm(built, total=len(missing), desc="Preprocessing volumes", disable=rank > 0):
                pass
        finally:
            pool.shutdown(cancel_futures=True)

    def _build(self, case: Mapping[str, Any], directory: Path) -> None:
        arrays, meta = entry_content(preprocess(self.preprocessing, case), source_of(case["image"]), self.dtype)
        temporary = directory.with_name(f"{directory.name}.{uuid4().hex}.tmp")
        try:
            write_entry(temporary, arrays, meta)
            publish_entry(temporary, directory)
        except OSError as error:
            raise InputError(
                f"cache_dir {self.cache_dir} cannot be written ({error.strerror or error}); free space there or set "
                "cache_dir to another disk"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def deterministic(preprocessing: Any) -> Compose:
    """Transforms as one, after checking that none of them is random."""
    composed = preprocessing if isinstance(preprocessing, Compose) else Compose(preprocessing)
    for transform in composed.flatten().transforms:
        if isinstance(transform, Randomizable):
            name = type(transform).__name__
            raise InputError(f"preprocessing holds the random transform {name}; move it to the augmentation")
    return composed


def preprocess(preprocessing: Compose, case: Mapping[str, Any]) -> dict[str, Any]:
    """Run the transforms on a data item; where one raises an InputError, that is what is raised."""
    try:
        return preprocessing(dict(case))
    except Exception as error:
        cause = find_input_error(error)  # MONAI wraps it in an error that names the transform only
        if cause is None:
            raise
        raise InputError(str(cause)) from error


def rank_and_world_size() -> tuple[int, int]:
    """This process's rank and the number of processes; 0 and 1 without torch.distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


class VolumeDataset(Dataset):
    """Whole preprocessed volumes from the cache, for validation.

    An item is {"image": MetaTensor (C, H, W, D) float32, "label": MetaTensor (K, H, W, D) uint8 where there is one},
    with the preprocessed affine and the file name in its meta. Arguments as for VolumeCache; `data` as from datalist,
    `num_workers` threads build what is missing.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        cache_dir: str | Path,
        preprocessing: Any,
        dtype: str = "float16",
        num_workers: int = 0,
    ) -> None:
        self.data = list(data)
        self.cache = VolumeCache(cache_dir, preprocessing, dtype)
        self.cache.prepare(self.data, num_workers)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, MetaTensor]:
        case = self.data[index]
        volume = self.cache.open(case)
        arrays = {"image": volume.image.astype(np.float32)}
        if volume.label is not None:
            arrays["label"] = np.array(volume.label)
        return {
            key: MetaTensor(torch.from_numpy(array), volume.affine, {"filename_or_obj": source_of(case[key])})
            for key, array in arrays.items()
        }
