"""Random forests that must fail on a phantom: they see intensities around a voxel, or its position, or both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from custom.study.pixels import intensity_features

from .phantom_populations import CT, Case, Population


def position_features(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Voxel coordinates (H, W, D, 3)."""
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"), axis=-1)


def features_of(prepared: NDArray, kind: str) -> NDArray[np.float32]:
    """The features (H, W, D, F) of one gauge: intensity, position, or both."""
    parts = []
    if kind != "position":
        parts.append(intensity_features(prepared))
    if kind != "intensity":
        parts.append(position_features(prepared.shape[1:]))
    return np.concatenate(parts, axis=-1)


def dice_per_region(truth: NDArray, prediction: NDArray, regions: dict[str, tuple[int, ...]]) -> NDArray:
    """Dice (K,) of every set of labels, nan where it is in neither."""
    scores = np.full(len(regions), np.nan)
    for row, labels in enumerate(regions.values()):
        first, second = np.isin(truth, labels), np.isin(prediction, labels)
        if total := first.sum() + second.sum():
            scores[row] = 2 * (first & second).sum() / total
    return scores


def forest_gauge(
    train: list[Case], test: list[Case], kind: str, population: Population = CT, voxels: int = 25_000, seed: int = 0
) -> NDArray:
    """Mean Dice (K,) over `test` of a random forest that saw `voxels` voxels, at their true prevalence, of each case.

    Every voxel of a test case is predicted, so that false alarms count in full.
    """
    rng = np.random.default_rng(seed)
    inputs, targets = [], []
    for image, label in train:
        body = np.flatnonzero(population.body(image))
        chosen = rng.choice(body, min(voxels, body.size), replace=False)
        inputs.append(features_of(population.prepare(image), kind).reshape(label.size, -1)[chosen])
        targets.append(label.ravel()[chosen])
    forest = RandomForestClassifier(40, min_samples_leaf=3, n_jobs=-1, random_state=seed)
    forest.fit(np.concatenate(inputs), np.concatenate(targets))
    forest.n_jobs = 1  # trees' votes are added in one order, so that numbers repeat
    scores = []
    for image, label in test:
        prediction = forest.predict(features_of(population.prepare(image), kind).reshape(label.size, -1))
        scores.append(dice_per_region(label.ravel(), prediction, population.regions))
    return np.nanmean(scores, axis=0)
