"""results.csv: every number of every case, arm and seed, from which all means and intervals follow."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..files import write_csv
from .scores import CaseScores, FindingScores, Scores

COLUMNS = ("arm", "cases", "seed", "checkpoint", "case", "group", "source", "class", "value", "truth")
Key = tuple[str, int, str]  # arm, number of labelled cases, checkpoint
AllScores = Mapping[Key, Sequence[Scores]]  # of each key one a seed


def write_table(file: Path, scores: AllScores) -> None:
    """One row a number."""
    rows = [
        (arm, cases or "all", seed, checkpoint, *row)
        for (arm, cases, checkpoint), all_seeds in scores.items()
        for seed, one in enumerate(all_seeds)
        for row in long_rows(one)
    ]
    write_csv(file, COLUMNS, rows)


def long_rows(scores: Scores) -> list[tuple[str, int, int, str, float, float]]:
    """(case, group, source, class, value, truth) of every number; truth is NaN for Dice.

    Groups are numbers, as names of patients need not be known to draw them; an AUC compares cases of one source.
    """
    findings = isinstance(scores, FindingScores)
    truth = scores.truth if findings else np.full_like(scores.values, np.nan)
    numbers = {name: number for number, name in enumerate(dict.fromkeys(scores.groups))}
    sources = scores.sources if findings else np.zeros(len(scores.cases), int)
    return [
        (case, numbers[scores.groups[i]], int(sources[i]), name, float(scores.values[i, k]), float(truth[i, k]))
        for i, case in enumerate(scores.cases)
        for k, name in enumerate(scores.classes)
    ]


def read_table(file: Path) -> dict[Key, list[Scores]]:
    """The scores that `write_table` wrote, to six digits; of a file that ends in .gz as well."""
    found: dict[Key, dict[str, list[dict[str, str]]]] = {}
    with gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8") as opened:
        for row in csv.DictReader(opened):
            key = row["arm"], 0 if row["cases"] == "all" else int(row["cases"]), row["checkpoint"]
            found.setdefault(key, {}).setdefault(row["seed"], []).append(row)
    return {key: [as_scores(rows) for rows in seeds.values()] for key, seeds in found.items()}


def as_scores(rows: Sequence[Mapping[str, str]]) -> Scores:
    """What `long_rows` was made from; groups are as many zeros longer as keep their order as words."""
    classes = tuple(dict.fromkeys(row["class"] for row in rows))
    first = rows[:: len(classes)]  # of each case
    cases, groups = tuple(row["case"] for row in first), tuple(row["group"].zfill(9) for row in first)
    values, truth = (
        np.array([float(row[name] or "nan") for row in rows]).reshape(len(first), len(classes))
        for name in ("value", "truth")
    )
    if np.isnan(truth).all():
        return CaseScores(cases, groups, classes, values)
    return FindingScores(cases, groups, classes, values, truth, np.array([int(row["source"]) for row in first]))
