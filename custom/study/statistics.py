"""Differences of two arms on the same cases and seeds, with intervals that count both as drawn by chance.

A bootstrap of the seeds as well would be too sure: its percentiles cannot lie outside of the three or five values
that there are, so that with three seeds one in four comparisons of equals found a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t, wilcoxon

from ..auc import interval, patient_replicates
from .scores import Scores, known_mean

REPLICATES = 10_000


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

    The 95 % interval covers the choice of the test cases, by a bootstrap in which patients are drawn with replacement,
    the same for all, and from two seeds on chance in training.
    """
    check_paired([*first, *second])
    pairs = list(zip(first, second, strict=True))
    seeds = [overall(a) - overall(b) for a, b in pairs]
    drawn = [drawn_means(a, replicates) - drawn_means(b, replicates) for a, b in pairs]
    each = np.mean([a.per_unit() - b.per_unit() for a, b in pairs], axis=0)
    return Difference(float(np.mean(seeds)), *over_seeds(seeds, drawn, len(set(first[0].groups))), signed_rank(each))


def overall(scores: Scores) -> float:
    """The mean of an arm, every case once."""
    return float(scores.mean(np.ones((1, len(scores.cases))))[0])


@lru_cache(maxsize=1024)
def drawn_means(scores: Scores, replicates: int) -> NDArray:
    """Mean of an arm in every draw of patients (R,), the same draws for all arms of the same cases."""
    if len(set(scores.groups)) < 2:
        return np.full(replicates, np.nan)
    return np.concatenate([scores.mean(weight) for weight in patient_replicates(scores.groups, replicates)])


def over_seeds(seeds: Sequence[float], drawn: Sequence[NDArray], units: int) -> tuple[float, float]:
    """The 95 % interval of a mean over seeds, from its value in each seed and in every draw of `units` patients (R,).

    The errors of cases and of chance in training are independent: their squares are added. The draws spread about their
    own mean: whoever is drawn twice has pairs of images within him counted four times, which shifts an AUC.
    """
    mean, means = float(np.mean(seeds)), np.mean(drawn, axis=0)
    of_cases = few_units(units) * (np.array(interval(means)) - known_mean(means, axis=0))
    low, high = np.hypot(of_cases, of_seeds(seeds))
    return mean - float(low), mean + float(high)


def few_units(units: int) -> float:
    """How much wider than a bootstrap's an interval has to be, as Student's is, for so few patients."""
    return float(t.ppf(0.975, units - 1) / norm.ppf(0.975) * np.sqrt(units / (units - 1))) if units > 1 else np.nan


def of_seeds(seeds: Sequence[float]) -> float:
    """Half of Student's interval over seeds; 0 for a single one, which tells nothing of chance in training."""
    count = len(seeds)
    return float(t.ppf(0.975, count - 1) * np.std(seeds, ddof=1) / np.sqrt(count)) if count > 1 else 0.0


def summarise(scores: Sequence[Scores], replicates: int = REPLICATES) -> tuple[float, float, float]:
    """Mean of an arm over seeds, and its interval over patients and seeds, as far as a score can lie in it."""
    seeds, drawn = [overall(one) for one in scores], [drawn_means(one, replicates) for one in scores]
    low, high = over_seeds(seeds, drawn, len(set(scores[0].groups)))
    return float(np.mean(seeds)), max(low, 0.0), min(high, 1.0)


def check_paired(scores: Sequence[Scores]) -> None:
    """ValueError unless all are of the same cases in the same order: a fault of the program, not of the user."""
    if any(one.cases != scores[0].cases or one.classes != scores[0].classes for one in scores):
        raise ValueError("arms were scored on different cases or classes")


def signed_rank(differences: NDArray) -> float:
    """p of Wilcoxon's signed-rank test; NaN where it has nothing to rank."""
    known = differences[~np.isnan(differences)]
    return float(wilcoxon(known).pvalue) if len(known) > 1 and known.any() else float("nan")
