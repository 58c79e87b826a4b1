"""Scores of probabilities: area under the ROC curve, calibration, and intervals over patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

REPLICATES = 2000
CHUNK = 100  # replicates weighed at once
BINS = 15

Array = NDArray[np.float64]


def roc_auc(truth: NDArray, scores: NDArray, weight: NDArray | None = None) -> Array:
    """Probability that a positive scores above a negative, ties counting half (Mann-Whitney).

    truth (N,) of 0 and 1, scores (N,), weight (R, N) of how often each counts, once if None -> (R,); NaN where
    positives or negatives are missing.
    """
    weight = np.ones((1, len(truth))) if weight is None else np.asarray(weight, dtype=float)
    order = np.argsort(scores, kind="stable")
    groups = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # where each group of equal scores begins
    positive = np.add.reduceat(weight[:, order] * truth[order], groups, axis=1)  # (R, groups)
    negative = np.add.reduceat(weight[:, order] * (1 - truth[order]), groups, axis=1)
    won = (positive * (negative.cumsum(axis=1) - negative / 2)).sum(axis=1)
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def roc_curve(truth: NDArray, scores: NDArray) -> tuple[Array, Array]:
    """False and true positive rates over falling thresholds, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=np.inf))
    hits = truth[order].cumsum()[ends]
    false = (ends + 1 - hits) / max(1, (1 - truth).sum())
    return np.concatenate([[0], false]), np.concatenate([[0], hits / max(1, truth.sum())])


def calibration_error(truth: NDArray, probability: NDArray, bins: int = BINS) -> float:
    """Expected calibration error: |observed share - mean probability| over equal bins, weighted by their size."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    gap = np.bincount(index, weights=truth - probability, minlength=bins)
    return float(np.abs(gap).sum() / len(truth))


def patient_replicates(patients: Sequence[str], replicates: int = REPLICATES, seed: int = 0) -> Iterator[NDArray]:
    """How often each image counts when patients are drawn with replacement: (up to 100, N), `replicates` in all."""
    names, index = np.unique(np.asarray(patients), return_inverse=True)
    rng, chances = np.random.default_rng(seed), [1 / len(names)] * len(names)
    for first in range(0, replicates, CHUNK):
        yield rng.multinomial(len(names), chances, size=min(CHUNK, replicates - first))[:, index]


def bootstrap_aucs(truth: NDArray, scores: NDArray, patients: Sequence[str], seed: int = 0) -> Array:
    """AUC of each finding in every replicate of `patient_replicates`: truth and scores (N, K) -> (replicates, K)."""
    findings = range(truth.shape[1])
    return np.concatenate([
        np.stack([roc_auc(truth[:, k], scores[:, k], weight) for k in findings], axis=1)
        for weight in patient_replicates(patients, seed=seed)
    ])  # fmt: skip


def interval(values: NDArray, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of replicates, NaN left out; NaN where fewer than two remain."""
    finite = values[~np.isnan(values)]
    if len(finite) < 2:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
