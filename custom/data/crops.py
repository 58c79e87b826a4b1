"""Random crops straight from the volume cache, each a pure function of seed, epoch, case and sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import DistributedSampler as CasesOfRank
from monai.data import MetaTensor
from monai.transforms import Compose, Randomizable
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from ..errors import InputError
from ..files import source_of
from .entries import CachedVolume
from .volumes import VolumeCache, rank_and_world_size

CROPS = ("foreground", "label", "uniform")


class EpochDataset(Dataset):
    """A dataset whose items depend on the seed, the epoch and the case alone.

    An index past the end is the same case in a later epoch: `epoch, case = divmod(index, len(data))`. So what is drawn
    depends neither on the number of workers nor on what was drawn before, and a resumed run sees the data an unbroken
    one would have seen. EpochSampler yields such indices; iterating over the dataset itself gives the first epoch.
    """

    data: list[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Any]:
        return (self[index] for index in range(len(self)))


class CropDataset(EpochDataset):
    """Crops of preprocessed volumes; only the crop itself is read from disk.

    `dataset[index]` is a list of `num_samples` items {"image": (C, *roi_size) float32, "label": (K, *roi_size) uint8
    where the case has one, "valid": (1, *roi_size) bool}. `valid` is False where the crop sticks out of a volume
    smaller than `roi_size`: image and label are 0 there and the volume lies in the middle.

    Args:
        data: items with "image" and, optionally, "label" file names.
        cache_dir, preprocessing, dtype: as for VolumeCache.
        roi_size: the crop's size in voxels, one number an axis.
        num_samples: crops per case.
        crop: "foreground" (centres uniform over voxels of the preprocessed image other than 0; sees no label), "label"
            (the reference's: with probability 1/2 each, centres uniform over labelled voxels or over unlabelled
            foreground, as RandCropByPosNegLabel; this does use labels, in pre-training too), or "uniform" (every
            position). Centres come from up to 50,000 voxels of each kind and are moved inward until the crop fits.
        augmentation: MONAI random dictionary transforms for each crop; a spatial one should name "valid" in its keys.
        seed: of everything random here, not negative.
        num_workers: threads that build missing cache entries.

    Raises:
        InputError: no data, an unknown `crop`, crop="label" without labels, or a faulty case.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        cache_dir: str | Path,
        preprocessing: Any,
        roi_size: Sequence[int],
        num_samples: int = 4,
        crop: str = "foreground",
        augmentation: Any = None,
        seed: int = 0,
        dtype: str = "float16",
        num_workers: int = 0,
    ) -> None:
        self.data = list(data)
        if not self.data:
            raise InputError("the list of cases to crop from is empty; set dataset_dir or split so that it is not")
        if crop not in CROPS:
            raise InputError(f"crop {crop!r} is unknown; use one of {', '.join(CROPS)}")
        unlabelled = [source_of(case["image"]) for case in self.data if "label" not in case]
        if crop == "label" and unlabelled:
            raise InputError(f"crop 'label' needs labels but {unlabelled[0]} has none; set crop to 'foreground'")
        self.roi_size = tuple(int(size) for size in roi_size)
        self.num_samples = num_samples
        self.crop = crop
        listed = augmentation is not None and not isinstance(augmentation, Compose)
        self.augmentation = Compose(augmentation) if listed else augmentation
        self.seed = seed
        self.cache = VolumeCache(cache_dir, preprocessing, dtype)
        self.cache.prepare(self.data, num_workers)

    def __getitem__(self, index: int) -> list[dict[str, Tensor]]:
        epoch, case = divmod(int(index), len(self.data))
        volume = self.cache.open(self.data[case])
        states = (random_state(self.seed, epoch, case, sample) for sample in range(self.num_samples))
        return [self._sample(volume, state) for state in states]

    def _sample(self, volume: CachedVolume, state: np.random.RandomState) -> dict[str, Tensor]:
        start = crop_start(volume, self.crop, self.roi_size, state)
        sample = read_crop(volume, start, self.roi_size)
        if self.augmentation is None:
            return sample
        set_random_state(self.augmentation, state)
        return plain_tensors(self.augmentation(sample))


class EpochSampler(DistributedSampler):
    """Each case once an epoch, divided among processes, as indices that carry the epoch: epoch * len(dataset) + case.

    MONAI's Trainer calls `set_epoch` at the start of every epoch because this is a DistributedSampler, and ignite makes
    the loader's iterator only after that, so the epoch is right from the first one on and after a resume. It is so as
    long as an ignite epoch is one pass over the loader (no shorter `epoch_length`).

    Args:
        dataset: an EpochDataset.
        shuffle: a new order every epoch, from `seed` and the epoch; otherwise cases come in order.
        seed: the same in all processes.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int = 0) -> None:
        rank, world_size = rank_and_world_size()
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=shuffle, seed=seed)

    def __iter__(self) -> Iterator[int]:
        first = self.epoch * len(self.dataset)
        return iter([first + case for case in super().__iter__()])


def each_case_once(dataset: Sized) -> CasesOfRank:
    """A sampler that divides `dataset` among processes, in order and without repeating a case to make shares equal.

    InputError where a process would have none, because MONAI's metrics are gathered from all.
    """
    world_size = rank_and_world_size()[1]
    if len(dataset) < world_size:
        raise InputError(
            f"{len(dataset)} cases are too few for {world_size} processes; start fewer, or leave more cases for "
            "validation or test"
        )
    return CasesOfRank(dataset, even_divisible=False, shuffle=False)


def set_random_state(augmentation: Any, state: np.random.RandomState) -> None:
    """Let all that is random in a chain of transforms draw from `state`.

    Compose would seed each with a generator of its own, which takes longer than a flip.
    """
    chain = augmentation.transforms if type(augmentation) is Compose else [augmentation]
    for transform in chain:
        if isinstance(transform, Randomizable):
            transform.set_random_state(state=state)


def random_state(*keys: int) -> np.random.RandomState:
    """A generator of its own for each combination of non-negative `keys`, of the type MONAI's transforms take."""
    return np.random.RandomState(np.random.PCG64(np.random.SeedSequence(keys)))  # quick to seed, unlike the default


def crop_start(
    volume: CachedVolume, crop: str, roi_size: Sequence[int], state: np.random.RandomState
) -> tuple[int, ...]:
    """First voxel of a random crop per axis; 0 along an axis that is not longer than the crop."""
    room = np.maximum(np.subtract(volume.image.shape[1:], roi_size), 0)
    if crop == "uniform":
        return tuple(int(state.randint(size + 1)) for size in room)
    centres = volume.foreground
    if crop == "label" and volume.label is None:
        raise InputError(
            f"crop 'label' needs the label of {volume.meta['source']}; add 'label' to preprocessing's keys"
        )
    if crop == "label":
        centres = volume.positive if state.rand() < 0.5 else volume.negative
        centres = centres if len(centres) else volume.foreground
    centre = centres[state.randint(len(centres))].astype(int)
    return tuple(int(start) for start in np.clip(centre - np.floor_divide(roi_size, 2), 0, room))


def read_crop(volume: CachedVolume, start: Sequence[int], roi_size: Sequence[int]) -> dict[str, Tensor]:
    """Read the crop at `start` -> image float32, label, and valid: where the crop lies inside the volume."""
    shape = volume.image.shape[1:]
    sizes = [min(size, length) for size, length in zip(roi_size, shape, strict=True)]
    source = (slice(None), *(slice(first, first + size) for first, size in zip(start, sizes, strict=True)))
    before = [(length - size) // 2 for length, size in zip(roi_size, sizes, strict=True)]
    target = (slice(None), *(slice(first, first + size) for first, size in zip(before, sizes, strict=True)))
    blocks = {"image": torch.from_numpy(volume.image[source])}
    if volume.label is not None:
        blocks["label"] = torch.from_numpy(volume.label[source])
    blocks["valid"] = torch.ones([1] * (len(sizes) + 1), dtype=torch.bool).expand(1, *sizes)
    return {
        key: placed(block, target, roi_size, torch.float32 if key == "image" else block.dtype)
        for key, block in blocks.items()
    }


def placed(block: Tensor, target: tuple[slice, ...], roi_size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """`block` at `target` in zeros (C, *roi_size) of `dtype`; copied once, straight from the file it maps."""
    whole = block.shape[1:] == tuple(roi_size)
    crop = (torch.empty if whole else torch.zeros)((block.shape[0], *roi_size), dtype=dtype)
    crop[target] = block
    return crop


def plain_tensors(sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without MONAI's metadata, which a crop has no use for and which makes collation slow; `valid` stays bool."""
    plain = {key: plain_tensor(value) for key, value in sample.items()}
    return {**plain, "valid": plain["valid"].bool()}


def plain_tensor(value: Tensor) -> Tensor:
    """A tensor without MONAI's metadata."""
    return value.as_tensor() if isinstance(value, MetaTensor) else value
