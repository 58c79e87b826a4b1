"""What fewer windows cost: Dice on generated CTs, windows as MONAI places them and evenly.

`python -m scripts.bench.overlap`: the shipped unetr_btcv in bfloat16; organs are those that its weights know.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import fire
import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from custom.data.phantoms.ct import generate_ct
from custom.inferers import AutocastInferer
from custom.streaming import NativeSlidingWindowInferer
from custom.transforms import NativeLabelsd

from .runtimes import shipped_network
from .segment import parser_with

ORGANS = (1, 2, 3, 6, 7, 8, 9, 11)
SHAPE, SPACING = (256, 256, 96), (1.4, 1.4, 3.0)


class Placement:
    """One way to place windows: MONAI's fixed steps over all scores, or ours; counts the windows of each case."""

    def __init__(self, evenly: bool, overlap: float) -> None:
        kind: type[Inferer] = NativeSlidingWindowInferer if evenly else SlidingWindowInferer
        self.name = f"{'evenly' if evenly else 'as MONAI'}, overlap {overlap:.2f}"
        self.inferer = AutocastInferer(kind([96] * 3, sw_batch_size=1, overlap=overlap, mode="gaussian"))
        self.windows: list[int] = []
        self.dice: list[float] = []

    def add(self, network: torch.nn.Module, image: MetaTensor, truth: np.ndarray) -> None:
        """Segment image (1, h, w, d) and score the labels against `truth` (H, W, D)."""
        self.windows.append(0)

        def counted(window: Tensor) -> Tensor:
            self.windows[-1] += 1
            return network(window)

        with torch.inference_mode():
            found = self.inferer(image[None], counted)[0]
        if found.is_floating_point():
            found = NativeLabelsd("pred")({"image": image, "pred": found})["pred"]
        self.dice.append(mean(dice(np.asarray(found[0]), truth, organ) for organ in ORGANS))


def dice(found: np.ndarray, truth: np.ndarray, label: int) -> float:
    """Dice of one label; it is in the truth."""
    return float(2 * ((found == label) & (truth == label)).sum() / ((found == label).sum() + (truth == label).sum()))


def compare(cases: int = 9, overlaps: Sequence[float] = (0.25, 0.33, 0.5), seed: int = 777) -> None:
    """Print windows and mean Dice of each placement, and its difference from MONAI's at 0.5 with a 95 % interval."""
    ways = [Placement(evenly, overlap) for evenly in (False, True) for overlap in overlaps]
    network, load = shipped_network("unetr_btcv"), parser_with({}).get_parsed_content("preprocessing")
    with tempfile.TemporaryDirectory() as folder:
        for case in range(cases):
            image, truth = generate_ct(seed, case, SHAPE, SPACING)
            nib.save(nib.Nifti1Image(image, np.diag([*SPACING, 1.0])), Path(folder) / "ct.nii.gz")
            loaded = load({"image": str(Path(folder) / "ct.nii.gz")})["image"]
            for way in ways:
                way.add(network, loaded, truth)
    reference = np.array(next(way.dice for way in ways if way.name == "as MONAI, overlap 0.50"))
    for way in ways:
        difference = np.array(way.dice) - reference
        margin = 1.96 * difference.std(ddof=1) / len(difference) ** 0.5
        sys.stdout.write(
            f"{way.name}: {mean(way.windows):.1f} windows, Dice {mean(way.dice):.4f}, "
            f"difference {difference.mean():+.4f} +- {margin:.4f}\n"
        )


if __name__ == "__main__":
    fire.Fire(compare)
