"""The published records, and means out of a results.csv computed again without the code that wrote it."""

import csv
import io

import numpy as np
import pytest

from scripts.tiny import ROOT

LIMITS = ("mean", "low", "high")
RECORDS = sorted((ROOT / "docs" / "results").glob("*/summary.json"))
Rows = list[dict[str, str]]


def read_table(text: str) -> Rows:
    """Its rows."""
    return list(csv.DictReader(io.StringIO(text)))


def check_means(text: str, summary: dict) -> None:
    """Whether the means of a summary follow from the table; its numbers have six digits."""
    found: dict[tuple, dict[str, Rows]] = {}
    for row in read_table(text):
        key = tuple(row[name] for name in ("arm", "cases", "checkpoint"))
        found.setdefault(key, {}).setdefault(row["seed"], []).append(row)
    score = mean_auc if summary["metric"] == "AUC" else mean_dice
    means = {key: np.mean([score(rows) for rows in seeds.values()]) for key, seeds in found.items()}
    assert len(found) == len(summary["arms"])
    for arm in summary["arms"]:
        key = arm["arm"], str(arm["cases"] or "all"), arm["checkpoint"]
        assert len(found[key]) == arm["seeds"]
        assert arm["mean"] == pytest.approx(means[key], abs=1e-4)
    for row in summary["differences"]:
        keys = [(row[arm], str(row["cases"] or "all"), row["checkpoint"]) for arm in ("arm", "against")]
        first, second = (means.get(key) or means[*key[:2], "last"] for key in keys)  # pixels have "last" alone
        assert row["mean"] == pytest.approx(first - second, abs=2e-4)


def mean_auc(rows: Rows) -> float:
    """Mean over findings of the share of pairs of one source in which the positive scores higher."""
    areas = []
    for finding in {row["class"] for row in rows}:
        won = pairs = 0.0
        for source in {row["source"] for row in rows}:
            found = [row for row in rows if row["class"] == finding and row["source"] == source]
            values, truth = (np.array([float(row[name]) for row in found]) for name in ("value", "truth"))
            gap = values[truth == 1][:, None] - values[truth == 0]
            won, pairs = won + (gap > 0).sum() + 0.5 * (gap == 0).sum(), pairs + gap.size
        areas += [won / pairs] if pairs else []
    return float(np.mean(areas))


def mean_dice(rows: Rows) -> float:
    """Mean over classes, then over cases; absent classes left out."""
    cases: dict[str, list[float]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(float(row["value"] or "nan"))
    known = [[value for value in values if not np.isnan(value)] for values in cases.values()]
    return float(np.mean([np.mean(values) for values in known if values]))
