"""The published records of comparisons: what they and the pages tell follows from their tables."""

import gzip
import json
import re
from pathlib import Path

import pytest

from custom.study.results import computed_again
from custom.study.table import read_table
from scripts.tiny import ROOT

from .tables import check_means

RECORDS = sorted((ROOT / "docs" / "results").glob("*/summary.json"))


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


LIMITS = ("mean", "low", "high")
INTERVAL = re.compile(r"([+-]?)(\d?\.\d{3}) \[([+-]?)(\d?\.\d{3}), ([+-]?)(\d?\.\d{3})\]")


def told_in(text: str) -> set[tuple[str, ...]]:
    """(mean, low, high) of every interval, as "+0.011" or "0.625"."""
    parts = [list(zip(one[::2], one[1::2], strict=True)) for one in INTERVAL.findall(text)]
    return {tuple(f"{sign}{'0' * number.startswith('.')}{number}" for sign, number in one) for one in parts}


def known_of(record: str) -> set[tuple[str, ...]]:
    """Those of a record."""
    summary = json.loads((ROOT / "docs" / "results" / record / "summary.json").read_text())
    tables = (("%.3f", summary["arms"]), ("%+.3f", summary["differences"]))
    return {tuple(form % row[name] for name in LIMITS) for form, rows in tables for row in rows}


def sections() -> dict[str, str]:
    """Of results.md, by the name that begins their titles; "a, last" is the record a."""
    parts = re.split(r"^## ", (ROOT / "docs" / "results.md").read_text(), flags=re.MULTILINE)[1:]
    return {re.split("[,:]", part)[0]: part for part in parts}


@pytest.mark.parametrize("record", [file.parent.name for file in RECORDS])
def test_every_interval_of_a_section_is_one_of_its_record(record: str) -> None:
    told = told_in(sections()[record])
    assert told and told <= known_of(record)


def test_every_interval_of_the_overview_is_one_of_the_record_that_its_line_names() -> None:
    overview = (ROOT / "docs" / "results.md").read_text().split("\n## ")[0]
    lines = [line for line in overview.splitlines() if line.startswith("|") and told_in(line)]
    words = "\n".join(line for line in overview.splitlines() if not line.startswith("|"))
    assert told_in(words) <= set().union(*(known_of(file.parent.name) for file in RECORDS))
    assert lines and all(told_in(line) <= known_of(re.split("[, *|]+", line)[1]) for line in lines)


def test_every_interval_of_the_readme_is_one_of_the_last_attempts() -> None:
    told = told_in((ROOT / "README.md").read_text())
    assert told and told <= known_of("a") | known_of("b")


def test_every_record_is_told_of() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    assert RECORDS and all(f"results/{file.parent.name}/" in text for file in RECORDS)
    assert set(sections()) == {file.parent.name for file in RECORDS}
