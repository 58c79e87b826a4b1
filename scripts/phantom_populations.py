"""What the difficulty gauges need to know of each generator of phantoms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from custom.data.phantoms.ct import ORGANS, generate_ct
from custom.data.phantoms.mr import CONTRASTS, generate_mr

Case = tuple[NDArray, NDArray]
PUBLISHED = (1, 2, 3, 4, 6, 7, 8, 11)  # the eight organs of the TransUNet table


@dataclass(frozen=True)
class Population:
    """A generator at one grid, how its images become inputs, what is scored, and the limits of the forests.

    `prepare` maps an image to float32 (C, H, W, D); `body` to the mask (H, W, D) in which forests are trained.
    `regions` are the scored sets of labels by name, and `headline` those whose mean the small U-Net must reach.
    """

    generate: Callable[..., Case]
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int
    classes: int
    prepare: Callable[[NDArray], NDArray[np.float32]]
    body: Callable[[NDArray], NDArray[np.bool_]]
    regions: dict[str, tuple[int, ...]]
    headline: tuple[str, ...]
    limits: dict[str, float]
    crop: tuple[int, int, int]

    def cases(self, seed: int, count: int) -> list[Case]:
        """The first `count` patients of a population."""
        numbers = tqdm(range(count), desc="phantoms", unit="case")
        return [self.generate(seed, index, self.shape, self.spacing) for index in numbers]


def window(image: NDArray) -> NDArray[np.float32]:
    """HU (H, W, D) to (1, H, W, D): the window -175..250 to 0..1."""
    return ((np.clip(image, -175, 250) + 175) / 425).astype(np.float32)[None]


def standardise(image: NDArray) -> NDArray[np.float32]:
    """Contrasts (H, W, D, C) to (C, H, W, D): zero mean and unit variance in the brain, -4 outside."""
    brain = image[..., 0] > 0
    values = image[brain].astype(np.float32)  # (n, C)
    prepared = np.full(image.shape, -4, np.float32)
    prepared[brain] = np.clip((values - values.mean(0)) / values.std(0), -4, 6)
    return np.moveaxis(prepared, -1, 0).copy()


CT = Population(
    generate=generate_ct,
    shape=(96, 84, 72),
    spacing=(4.0, 4.0, 4.0),
    channels=1,
    classes=14,
    prepare=window,
    body=lambda image: image > -300,
    regions={name: (label,) for name, label in ORGANS.items()},
    headline=tuple(name for name, label in ORGANS.items() if label in PUBLISHED),
    limits={"intensity": 0.30, "position": 0.50, "both": 0.60},
    crop=(80, 64, 72),
)
MR = Population(
    generate=generate_mr,
    shape=(54, 64, 54),
    spacing=(3.0, 3.0, 3.0),
    channels=len(CONTRASTS),
    classes=4,
    prepare=standardise,
    body=lambda image: image[..., 0] > 0,
    regions={"TC": (2, 3), "WT": (1, 2, 3), "ET": (3,)},
    headline=("TC", "WT", "ET"),
    limits={"intensity": 0.60, "position": 0.30, "both": 0.65},
    crop=(48, 56, 48),
)
POPULATIONS = {"ct": CT, "mr": MR}
