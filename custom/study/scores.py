"""Scores of one arm on the scored cases, in a form that can be drawn again: cases by weight, then a mean."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..auc import roc_auc
from ..findings import LEAST_POSITIVES
from ..metrics import DICE_NATIVE

if TYPE_CHECKING:
    from .plan import Plan

LABEL = " (label)"  # ends the columns of per_image.csv that hold the truth


@dataclass(frozen=True, eq=False)
class CaseScores:
    """Dice of each case and class (N, K), NaN where the class is absent; `groups` (N,) are drawn as a whole."""

    cases: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    values: NDArray[np.float64]

    def mean(self, weight: NDArray) -> NDArray:
        """Mean over classes, then over cases counted `weight` (R, N) times -> (R,)."""
        each = self.per_unit()
        known = ~np.isnan(each)
        total = weight[:, known].sum(axis=1)
        return np.divide(weight[:, known] @ each[known], total, out=np.full(len(weight), np.nan), where=total > 0)

    def per_class(self) -> NDArray:
        """Mean of each class over the cases that have it (K,); NaN where none has."""
        return known_mean(self.values, axis=0)

    def per_unit(self) -> NDArray:
        """Mean over the classes of each case (N,), which a rank test compares."""
        return known_mean(self.values, axis=1)


@dataclass(frozen=True, eq=False)
class FindingScores:
    """Probabilities and truth (N, K) of the findings that have enough positives and negatives.

    An AUC compares images of one source (N,) only, since sources differ in what they show and in how they look.
    """

    cases: tuple[str, ...]
    groups: tuple[str, ...]
    classes: tuple[str, ...]
    values: NDArray[np.float64]
    truth: NDArray[np.float64]
    sources: NDArray[np.int64]

    def areas(self, weight: NDArray) -> NDArray:
        """AUC of each finding, images counted `weight` (R, N) times -> (K, R); NaN where nothing can be ranked."""
        won, pairs = np.zeros((2, len(self.classes), len(weight)))
        for source in np.unique(self.sources):
            rows = self.sources == source
            for k in range(len(self.classes)):
                truth, counts = self.truth[rows, k], weight[:, rows]
                both = (counts @ truth) * (counts @ (1 - truth))
                won[k] += np.where(both > 0, roc_auc(truth, self.values[rows, k], counts), 0) * both
                pairs[k] += both
        return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)

    def mean(self, weight: NDArray) -> NDArray:
        """Mean AUC over findings, images counted `weight` (R, N) times -> (R,); those a draw cannot rank left out."""
        return known_mean(self.areas(weight), axis=0)

    def per_class(self) -> NDArray:
        """AUC of each finding (K,)."""
        return self.areas(np.ones((1, len(self.cases))))[:, 0]

    def per_unit(self) -> NDArray:
        """Nothing (0,), as an image has no AUC, and findings of the same images are no sample for a rank test."""
        return np.zeros(0)


Scores = CaseScores | FindingScores


def known_mean(values: NDArray, axis: int) -> NDArray:
    """Mean of what is not NaN along an axis; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    return np.where(count > 0, np.where(known, values, 0).sum(axis=axis) / np.maximum(count, 1), np.nan)


def read_evaluation(plan: Plan, name: str, section: str) -> Scores:
    """What the evaluation `name` wrote about the cases of a section."""
    if plan.recipe.classifies:
        return read_findings(plan.path(name) / "per_image.csv", plan.lists.sources(section))
    return read_cases(plan.path(name) / "per_case.csv")


def read_cases(file: Path) -> CaseScores:
    """Dice in native space from per_case.csv."""
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    cases, classes = (tuple(dict.fromkeys(row[name] for row in rows)) for name in ("case", "organ"))
    values = np.array([float(row[DICE_NATIVE] or "nan") for row in rows]).reshape(len(cases), len(classes))
    return CaseScores(cases, cases, classes, values)


def read_findings(file: Path, sources: Mapping[str, int]) -> FindingScores:
    """Probabilities and labels from per_image.csv, of findings that can be scored.

    sources: number of the source of each image, by name.
    """
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    names = tuple(name.removesuffix(LABEL) for name in rows[0] if name.endswith(LABEL))
    truth = np.array([[float(row[name + LABEL]) for name in names] for row in rows])
    values = np.array([[float(row[name]) for name in names] for row in rows])
    cases, patients = (tuple(row[name] for row in rows) for name in ("image", "patient"))
    return with_enough(
        FindingScores(cases, patients, names, values, truth, np.array([sources[case] for case in cases]))
    )


def with_enough(scores: FindingScores) -> FindingScores:
    """Of findings with enough positives and negatives; of all if none has."""
    enough = np.minimum(scores.truth.sum(axis=0), (1 - scores.truth).sum(axis=0)) >= LEAST_POSITIVES
    kept = np.flatnonzero(enough if enough.any() else np.ones_like(enough))
    names = tuple(scores.classes[k] for k in kept)
    return replace(scores, classes=names, values=scores.values[:, kept], truth=scores.truth[:, kept])
