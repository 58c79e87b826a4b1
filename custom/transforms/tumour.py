"""Numbered tumour labels to the regions that are learnt, one inside another or apart, and back: MSD, BraTS, others."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from torch import Tensor

from ..data.contrasts import UNKNOWN
from ..errors import InputError
from ..files import case_path
from ..resampling import labels_to_native
from .native import Natived
from .pictures import SaveOverlayd

# Names of regions -> their numbers in a label, in the order of the channels. A region is written as the first of its
# numbers that no smaller region has.
Regions = Mapping[str, Sequence[int]]


class Convention(NamedTuple):
    """Numbers of brain tumours' labels. core: dead or not enhancing. enhancing: the first is written, all are read."""

    oedema: int
    core: int
    enhancing: tuple[int, ...]

    def regions(self, published_et: bool = False) -> Regions:
        """Tumour core, whole tumour, enhancing tumour: the paper's order.

        `published_et` takes the non-enhancing core as ET, as the published code does (label 2 of MSD).
        """
        core = (self.core, *self.enhancing)
        return {"TC": core, "WT": (self.oedema, *core), "ET": (self.core,) if published_et else self.enhancing}


CONVENTIONS = {
    "msd": Convention(oedema=1, core=2, enhancing=(3,)),
    "brats2021": Convention(oedema=2, core=1, enhancing=(4, 3)),  # re-uploads of 2018-2021 often number 4 as 3
    "brats2023": Convention(oedema=2, core=1, enhancing=(3,)),
}
TISSUES = {1: "oedema", 2: "necrotic or non-enhancing core", 3: "enhancing tumour"}  # in the numbers of MSD


def regions_of(label: Tensor, regions: Regions) -> Tensor:
    """Numbered label (1, H, W, D) -> binary channel of each region (K, H, W, D) uint8."""
    members = (torch.tensor(list(numbers), dtype=label.dtype, device=label.device) for numbers in regions.values())
    return torch.stack([torch.isin(label[0], numbers) for numbers in members]).to(torch.uint8)


def label_of(channels: Sequence[Tensor], regions: Regions) -> Tensor:
    """Bool channel (H, W, D) of each region -> numbered label (H, W, D) uint8; the smallest region wins."""
    label = torch.zeros(channels[0].shape, dtype=torch.uint8, device=channels[0].device)
    for place, number in written_numbers(regions).items():
        label.masked_fill_(channels[place], number)
    return label


def written_numbers(regions: Regions) -> dict[int, int]:
    """Place of each region -> the number that it is written as, the largest region first.

    Raises:
        InputError: no names with whole numbers from 1 to 255, regions that overlap and neither of which holds the
            other, or one whose numbers all belong to smaller ones: such labels cannot be written and read again.
    """
    if not isinstance(regions, Mapping) or not all(map(_are_numbers, regions.values())):
        raise InputError(
            f"regions {regions!r} are no names with lists of numbers from 1 to 255; write {{'tumour':[1]}}"
        )
    members = [set(numbers) for numbers in regions.values()]
    written: dict[int, int] = {}
    for place in sorted(range(len(members)), key=lambda place: len(members[place]), reverse=True):
        own, name = members[place], list(regions)[place]
        if any(own & other and not (own <= other or other <= own) for other in members):
            raise InputError(
                f"region {name!r} of {dict(regions)} overlaps another; let one hold the other, or part them"
            )
        inner = set().union(*(other for other in members if len(other) < len(own))) | set(written.values())
        left = [number for number in regions[name] if number not in inner]
        if not left:
            raise InputError(
                f"region {name!r} of {dict(regions)} has no number of its own; give it one that no smaller region has"
            )
        written[place] = left[0]
    return written


def _are_numbers(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(type(n) is int and 0 < n < 256 for n in value)


def names_of_numbers(regions: Regions) -> dict[int, str]:
    """Number in a written label -> name of the region."""
    return {number: list(regions)[place] for place, number in written_numbers(regions).items()}


def regions_in(data: Mapping[Hashable, Any], name: str, published_et: bool = False) -> Regions:
    """The regions of a convention; "auto": of that which the datalist found in the layout, or MSD's."""
    name = str(data.get("convention", "msd")) if name == "auto" else name
    choices = ", ".join(CONVENTIONS)
    if name == UNKNOWN:
        raise InputError(
            f"the file names of {case_path(data)} do not say how its label is numbered; set label_convention to one of "
            f"{choices}"
        )
    if name not in CONVENTIONS:
        raise InputError(f"label_convention {name!r} is unknown; use 'auto' or one of {choices}")
    return CONVENTIONS[name].regions(published_et)


class TumourRegionsd(MapTransform):
    """Numbered labels (1, H, W, D) -> a binary channel for each region (K, H, W, D) uint8: TC, WT, ET, or others.

    Args:
        keys: labels.
        convention: "msd" (1 oedema, 2 non-enhancing, 3 enhancing), "brats2021" (1 necrotic, 2 oedema, 4 or 3
            enhancing), "brats2023" (1 necrotic, 2 oedema, 3 enhancing), or "auto": what the datalist found.
        published_et: see `Convention.regions`.
        allow_missing_keys: do not fail where a case lacks a key.
        regions: name -> numbers, in place of a convention.

    Raises:
        InputError: an unknown convention, or a label with numbers that no region has.
    """

    def __init__(
        self,
        keys: KeysCollection,
        convention: str = "auto",
        published_et: bool = False,
        allow_missing_keys: bool = False,
        regions: Regions | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention, self.published_et, self.regions = convention, published_et, regions
        if regions is not None:
            written_numbers(regions)  # what could not be written is not trained either

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            regions, label = self.regions or regions_in(data, self.convention, self.published_et), result[key]
            self._check(torch.as_tensor(label), regions, case_path(result))
            channels = regions_of(torch.as_tensor(label), regions)
            result[key] = MetaTensor(channels, meta=dict(label.meta)) if isinstance(label, MetaTensor) else channels
        return result

    def _check(self, label: Tensor, regions: Regions, path: str) -> None:
        allowed = {number for numbers in regions.values() for number in numbers}
        if unknown := sorted({int(number) for number in torch.unique(label)} - {0, *allowed}):
            raise InputError(
                f"the label of {path} has the numbers {unknown}, which are none of {sorted(allowed)}; "
                f"set {'regions' if self.regions else 'label_convention'}"
            )


class NativeTumourLabelsd(Natived):
    """Logits of the regions (K, h, w, d) -> numbered label (1, H, W, D) uint8 on the grid of the input file.

    The logits are interpolated to that grid; a region is where its logit is above 0.

    Args:
        keys, image_key, output_keys: as for NativeLabelsd.
        convention, published_et, regions: as for TumourRegionsd.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        output_keys: KeysCollection | None = None,
        convention: str = "auto",
        published_et: bool = False,
        regions: Regions | None = None,
    ) -> None:
        super().__init__(keys, image_key, output_keys)
        self.convention, self.published_et, self.regions = convention, published_et, regions

    def resample(
        self, source: Tensor, to_grid: np.ndarray, shape: Sequence[int], data: Mapping[Hashable, Any]
    ) -> Tensor:
        """A region against the constant 0 is a choice between two classes, which is sparse to interpolate."""
        pairs = (torch.stack([torch.zeros_like(logits), logits]) for logits in source)
        channels = [labels_to_native(pair, to_grid, shape).bool() for pair in pairs]
        return label_of(channels, self.regions or regions_in(data, self.convention, self.published_et))[None]


class SaveTumourOverlayd(SaveOverlayd):
    """SaveOverlayd for tumour labels numbered as `convention` or `regions` (see TumourRegionsd) say.

    A tissue has one colour in every convention, and voxels of the image that are 0, its background, are black.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        convention: str = "auto",
        image_key: str = "image",
        window: Sequence[float] | None = None,
        regions: Regions | None = None,
    ) -> None:
        super().__init__(keys, names_of_numbers(regions) if regions else TISSUES, output_dir, image_key, window)
        self.convention, self.regions = convention, regions

    def to_draw(self, data: Mapping[Hashable, Any]) -> tuple[MetaTensor, MetaTensor]:
        """The label map, of brain tumours in the numbers of MSD, and the image with a black background."""
        labels, image = super().to_draw(data)
        numbers = labels[0].as_tensor()
        if not self.regions:
            channels = regions_of(labels.as_tensor(), regions_in(data, self.convention)).bool()
            numbers = label_of(list(channels), CONVENTIONS["msd"].regions())
        black = image.as_tensor()[:1].where(image.as_tensor()[:1] != 0, image.min())
        return MetaTensor(numbers[None], meta=labels.meta), MetaTensor(black, meta=image.meta)
