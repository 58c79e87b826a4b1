"""Differences of two arms on the same cases and seeds, with intervals that count both as drawn by chance."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from ..auc import interval
from .scores import Scores

REPLICATES = 10_000
CHUNK = 500  # replicates weighed at once


class Difference(NamedTuple):
    """Mean of an arm minus that of another. p: of a Wilcoxon signed-rank test on differences averaged over seeds."""

    mean: float
    low: float
    high: float
    p: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    def __str__(self) -> str:
        return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"


def compare(first: Sequence[Scores], second: Sequence[Scores], replicates: int = REPLICATES) -> Difference:
    """`first` minus `second`, one of each a seed, paired.

    The interval is the 95 % percentile interval of a bootstrap in which patients are drawn with replacement, the same
    for all, and seeds are, so that it covers the choice of the test cases and, from two seeds on, chance in training.
    """
    check_paired([*first, *second])
    once = np.ones((1, len(first[0].cases)))
    mean = float(np.mean([a.mean(once)[0] - b.mean(once)[0] for a, b in zip(first, second, strict=True)]))
    drawn = [drawn_means(a, replicates) - drawn_means(b, replicates) for a, b in zip(first, second, strict=True)]
    low, high = interval(mean_of_drawn_seeds(drawn))
    each = np.mean([a.per_unit() - b.per_unit() for a, b in zip(first, second, strict=True)], axis=0)
    return Difference(mean, low, high, signed_rank(each))


@lru_cache(maxsize=1024)
def drawn_means(scores: Scores, replicates: int) -> NDArray:
    """Mean of an arm in every draw of patients (R,), the same draws for all arms of the same cases."""
    rng = np.random.default_rng(0)
    names, index = np.unique(np.asarray(scores.groups), return_inverse=True)
    if len(names) < 2:
        return np.full(replicates, np.nan)
    sizes = [min(CHUNK, replicates - start) for start in range(0, replicates, CHUNK)]
    weights = (rng.multinomial(len(names), [1 / len(names)] * len(names), size=size)[:, index] for size in sizes)
    return np.concatenate([scores.mean(weight) for weight in weights])


def mean_of_drawn_seeds(values: Sequence[NDArray], seed: int = 1) -> NDArray:
    """Mean (R,) over seeds drawn with replacement in every replicate, of one array (R,) a seed.

    One less than there are is drawn, without which the spread of few seeds comes out too small (Rao and Wu 1988); a
    single seed has none.
    """
    count, drawn = len(values), max(1, len(values) - 1)
    share = np.random.default_rng(seed).multinomial(drawn, [1 / count] * count, size=len(values[0])) / drawn
    return (share * np.stack(values, axis=1)).sum(axis=1)


def summarise(scores: Sequence[Scores], replicates: int = REPLICATES) -> tuple[float, float, float]:
    """Mean of an arm over seeds, and its interval over patients and seeds."""
    once = np.ones((1, len(scores[0].cases)))
    drawn = mean_of_drawn_seeds([drawn_means(one, replicates) for one in scores])
    return float(np.mean([one.mean(once)[0] for one in scores])), *interval(drawn)


def check_paired(scores: Sequence[Scores]) -> None:
    """ValueError unless all are of the same cases in the same order: a fault of the program, not of the user."""
    if any(one.cases != scores[0].cases or one.classes != scores[0].classes for one in scores):
        raise ValueError("arms were scored on different cases or classes")


def signed_rank(differences: NDArray) -> float:
    """p of Wilcoxon's signed-rank test; NaN where it has nothing to rank."""
    known = differences[~np.isnan(differences)]
    return float(wilcoxon(known).pvalue) if len(known) > 1 and known.any() else float("nan")
