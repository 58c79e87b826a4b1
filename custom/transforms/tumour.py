"""Brain tumours: numbered labels of MSD and BraTS to the regions TC, WT, ET that are learnt, and back."""

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

REGIONS = ("TC", "WT", "ET")  # tumour core, whole tumour, enhancing tumour: the channels, in the paper's order


class Convention(NamedTuple):
    """Label numbers. core: necrotic or non-enhancing. enhancing: the first is written, all are read."""

    oedema: int
    core: int
    enhancing: tuple[int, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """All numbers that may occur, background left out."""
        return (self.oedema, self.core, *self.enhancing)

    @property
    def names(self) -> dict[int, str]:
        """What each number stands for."""
        inner = dict.fromkeys(self.enhancing, "enhancing tumour")
        return {self.oedema: "oedema", self.core: "necrotic or non-enhancing core"} | inner


CONVENTIONS = {
    "msd": Convention(oedema=1, core=2, enhancing=(3,)),
    "brats2021": Convention(oedema=2, core=1, enhancing=(4, 3)),  # re-uploads of 2018-2021 often number 4 as 3
    "brats2023": Convention(oedema=2, core=1, enhancing=(3,)),
}


def regions_of(label: Tensor, convention: Convention, published_et: bool = False) -> Tensor:
    """Numbered label (1, H, W, D) -> regions (3, H, W, D) uint8 in the order of REGIONS.

    `published_et` takes the non-enhancing core as ET, as the published code does (label 2 of MSD).
    """
    oedema, core = label[0] == convention.oedema, label[0] == convention.core
    enhancing = torch.isin(label[0], torch.tensor(convention.enhancing, dtype=label.dtype, device=label.device))
    tumour_core = core | enhancing
    return torch.stack([tumour_core, tumour_core | oedema, core if published_et else enhancing]).to(torch.uint8)


def label_of(regions: Sequence[Tensor], convention: Convention, published_et: bool = False) -> Tensor:
    """Regions, three bool (H, W, D) -> numbered label (H, W, D) uint8; the innermost region wins."""
    tumour_core, whole, enhancing = regions
    inner, rest = convention.enhancing[0], convention.core
    if published_et:
        inner, rest = rest, inner
    label = torch.zeros(whole.shape, dtype=torch.uint8, device=whole.device)
    for region, number in ((whole, convention.oedema), (tumour_core, rest), (enhancing, inner)):
        label.masked_fill_(region, number)
    return label


def convention_of(data: Mapping[Hashable, Any], name: str) -> Convention:
    """The named convention; "auto" takes the one the datalist found in the layout, MSD's where it found none."""
    name = str(data.get("convention", "msd")) if name == "auto" else name
    choices = ", ".join(CONVENTIONS)
    if name == UNKNOWN:
        raise InputError(
            f"the file names of {case_path(data)} do not say how its label is numbered; set label_convention to one of "
            f"{choices}"
        )
    if name not in CONVENTIONS:
        raise InputError(f"label_convention {name!r} is unknown; use 'auto' or one of {choices}")
    return CONVENTIONS[name]


class TumourRegionsd(MapTransform):
    """Numbered labels (1, H, W, D) -> regions TC, WT, ET, (3, H, W, D) uint8.

    Args:
        keys: labels.
        convention: "msd" (1 oedema, 2 non-enhancing, 3 enhancing), "brats2021" (1 necrotic, 2 oedema, 4 or 3
            enhancing), "brats2023" (1 necrotic, 2 oedema, 3 enhancing), or "auto": what the datalist found.
        published_et: see `regions_of`.
        allow_missing_keys: do not fail where a case lacks a key.

    Raises:
        InputError: an unknown convention, or a label with numbers that it does not have.
    """

    def __init__(
        self,
        keys: KeysCollection,
        convention: str = "auto",
        published_et: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.convention, self.published_et = convention, published_et

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        convention = convention_of(data, self.convention)
        for key in self.key_iterator(result):
            label = result[key]
            found = {int(number) for number in torch.unique(torch.as_tensor(label))}
            if unknown := sorted(found - {0, *convention.ids}):
                raise InputError(
                    f"the label of {case_path(result)} has the numbers {unknown}, which are none of "
                    f"{sorted(convention.ids)}; set label_convention"
                )
            regions = regions_of(torch.as_tensor(label), convention, self.published_et)
            result[key] = MetaTensor(regions, meta=dict(label.meta)) if isinstance(label, MetaTensor) else regions
        return result


class NativeTumourLabelsd(Natived):
    """Logits of the regions (3, h, w, d) -> numbered label (1, H, W, D) uint8 on the grid of the input file.

    The logits are interpolated to that grid; a region is where its logit is above 0.

    Args:
        keys, image_key, output_keys: as for NativeLabelsd.
        convention, published_et: as for TumourRegionsd.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        output_keys: KeysCollection | None = None,
        convention: str = "auto",
        published_et: bool = False,
    ) -> None:
        super().__init__(keys, image_key, output_keys)
        self.convention, self.published_et = convention, published_et

    def resample(
        self, source: Tensor, to_grid: np.ndarray, shape: Sequence[int], data: Mapping[Hashable, Any]
    ) -> Tensor:
        """A region against the constant 0 is a choice between two classes, which is sparse to interpolate."""
        pairs = (torch.stack([torch.zeros_like(logits), logits]) for logits in source)
        regions = [labels_to_native(pair, to_grid, shape).bool() for pair in pairs]
        return label_of(regions, convention_of(data, self.convention), self.published_et)[None]


class SaveTumourOverlayd(SaveOverlayd):
    """SaveOverlayd for tumour labels numbered as `convention` (see TumourRegionsd) says.

    A tissue has one colour in every convention, and voxels of the image that are 0, its background, are black.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        convention: str = "auto",
        image_key: str = "image",
        window: Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys, CONVENTIONS["msd"].names, output_dir, image_key, window)
        self.convention = convention

    def to_draw(self, data: Mapping[Hashable, Any]) -> tuple[MetaTensor, MetaTensor]:
        """The label map in the numbers of MSD, and the image with a black background."""
        labels, image = super().to_draw(data)
        numbers = label_of(regions_of(labels, convention_of(data, self.convention)).bool(), CONVENTIONS["msd"])
        black = image.as_tensor()[:1].where(image.as_tensor()[:1] != 0, image.min())
        return MetaTensor(numbers[None], meta=labels.meta), MetaTensor(black, meta=image.meta)
