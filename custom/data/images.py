"""2D images decoded and resized once, into memory-mapped files from which an epoch only copies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Compose
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..errors import InputError
from ..files import replacing
from .crops import EpochDataset, plain_tensor, random_state, set_random_state
from .fingerprint import describe
from .volumes import deterministic, preprocess, rank_and_world_size

SHARD = 1024  # images in a file: small enough that little is lost with a killed run, large enough for few files


class ImageCache:
    """The images of a list of data items, preprocessed, as uint8 on disk.

    Up to 1,024 consecutive images share a file, which is named by what it was made from: the paths, sizes and time
    stamps of the images, the transforms, and the versions of MONAI and this package. A file is complete or absent, so
    several processes may build it at once, and a killed one goes on where it was.

    Args:
        data: items with an "image" file name.
        cache_dir: folder for the files; made when it is missing.
        preprocessing: deterministic MONAI dictionary transforms, from file names to uint8 tensors of one shape.
        num_workers: threads that decode.

    Raises:
        InputError: a random transform, a faulty image, images of different shape, or no space.
    """

    def __init__(
        self, data: Sequence[Mapping[str, Any]], cache_dir: str | Path, preprocessing: Any, num_workers: int = 0
    ) -> None:
        self.preprocessing = deterministic(preprocessing)
        description = describe(self.preprocessing)
        shards = [data[first : first + SHARD] for first in range(0, len(data), SHARD)]
        paths = [Path(cache_dir) / f"{shard_name(shard, description)}.npy" for shard in shards]
        missing = [(path, shard) for path, shard in zip(paths, shards, strict=True) if not path.is_file()]
        rank, world_size = rank_and_world_size()
        first = rank * len(missing) // world_size  # so that processes begin at different files
        with tqdm(total=sum(len(shard) for _, shard in missing), desc="Decoding images", disable=None) as bar:
            for path, shard in missing[first:] + missing[:first]:
                if not path.is_file():
                    self._build(path, shard, num_workers, bar)
        self.paths = paths
        self._opened: dict[Path, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        """The image (C, H, W) uint8 of item `index`, still on disk."""
        path = self.paths[index // SHARD]
        if path not in self._opened:
            self._opened[path] = np.load(path, mmap_mode="r")
        return self._opened[path][index % SHARD]

    def __getstate__(self) -> dict[str, Any]:
        """Without the open files, whose pixels a worker process would be sent one by one."""
        return vars(self) | {"_opened": {}}

    def _build(self, path: Path, shard: Sequence[Mapping[str, Any]], num_workers: int, bar: tqdm) -> None:
        shape = self._decode(shard[0]).shape
        pool = ThreadPoolExecutor(max(1, num_workers))
        try:
            with replacing(path) as unfinished, unfinished.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(shard), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for item, image in zip(shard, pool.map(self._decode, shard), strict=True):
                    if image.shape != shape:
                        raise InputError(
                            f"{item['image']} has shape {image.shape} after preprocessing where {shape} is due; "
                            "resize all images to one shape"
                        )
                    file.write(image.tobytes())
                    bar.update()
        finally:
            pool.shutdown(cancel_futures=True)

    def _decode(self, item: Mapping[str, Any]) -> np.ndarray:
        image = np.asarray(torch.as_tensor(preprocess(self.preprocessing, {"image": item["image"]})["image"]))
        if image.dtype != np.uint8:
            raise InputError(
                f"{item['image']} is {image.dtype} after preprocessing where 8-bit levels are kept; move what scales "
                "it to the augmentation"
            )
        return image


def shard_name(shard: Sequence[Mapping[str, Any]], description: Any) -> str:
    """Name of a cache file (64 hexadecimal digits); files are known by path, size and time stamp, not by content."""
    content = {
        "files": [file_stamp(item["image"]) for item in shard],
        "preprocessing": description,
        "versions": [monai.__version__, __version__],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_stamp(path: str | Path) -> list[Any]:
    """Absolute path, size and time stamp of a file."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct the path or its permissions") from error
    return [str(Path(path).resolve()), status.st_size, status.st_mtime_ns]


class ImageDataset(EpochDataset):
    """Items {"image": (C, H, W), "label": (K,) float32 where there is one, "patient", "source"} from an ImageCache.

    Args:
        data, cache_dir, preprocessing, num_workers: as for ImageCache.
        augmentation: MONAI dictionary transforms, random or not, from uint8 images to what the network takes.
        seed: of everything random here, not negative.

    Raises:
        InputError: no data, or whatever ImageCache raises.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        cache_dir: str | Path,
        preprocessing: Any,
        augmentation: Any,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        self.data = list(data)
        if not self.data:
            raise InputError("the list of images is empty; set dataset_dir so that it is not")
        self.augmentation = augmentation if isinstance(augmentation, Compose) else Compose(augmentation)
        self.seed = seed
        self.cache = ImageCache(self.data, cache_dir, preprocessing, num_workers)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        epoch, position = divmod(int(index), len(self.data))
        item = self.data[position]
        sample = {"image": torch.from_numpy(np.array(self.cache[position]))}
        set_random_state(self.augmentation, random_state(self.seed, epoch, position))
        image = plain_tensor(self.augmentation(sample)["image"])
        label = {"label": torch.tensor(item["label"], dtype=torch.float32)} if "label" in item else {}
        return {"image": image, **label, "patient": item["patient"], "source": item["image"]}
