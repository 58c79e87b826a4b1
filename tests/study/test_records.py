"""The published records of comparisons: their summaries follow from their tables."""

import gzip
import json
from pathlib import Path

import pytest

from custom.study.results import computed_again
from custom.study.table import read_table

from .tables import LIMITS, RECORDS, check_means


@pytest.mark.parametrize("file", RECORDS, ids=[file.parent.name for file in RECORDS])
def test_means_follow_from_every_number(file: Path) -> None:
    table = gzip.decompress(file.with_name("results.csv.gz").read_bytes()).decode()
    check_means(table, json.loads(file.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("file", RECORDS, ids=[file.parent.name for file in RECORDS])
def test_intervals_are_those_that_this_code_computes(file: Path) -> None:
    told = json.loads(file.read_text())
    if told["metric"] == "AUC":  # takes a second for each arm and seed: those that conclusions are drawn from
        main = {"self", "scratch", "scratch_long"}
        told["arms"] = [row for row in told["arms"] if row["arm"] in main and row["checkpoint"] == "last"]
        pairs = [row for row in told["differences"] if {row["arm"], row["against"]} <= main]
        told["differences"] = [row for row in pairs if row["checkpoint"] == "last"]
    found = computed_again(told, read_table(file.with_name("results.csv.gz")))
    for rows in ("arms", "differences"):
        assert len(told[rows]) > 1
        for one, other in zip(told[rows], found[rows], strict=True):
            assert [one[name] for name in LIMITS] == pytest.approx([other[name] for name in LIMITS], abs=1e-6)
