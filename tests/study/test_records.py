"""The published records of comparisons: their means follow from their tables."""

import gzip
import json
import re
from pathlib import Path

import pytest

from scripts.tiny import ROOT

from .tables import check_means

RECORDS = sorted((ROOT / "docs" / "results").glob("*/summary.json"))


@pytest.mark.parametrize("file", RECORDS, ids=[file.parent.name for file in RECORDS])
def test_means_follow_from_every_number(file: Path) -> None:
    table = gzip.decompress(file.with_name("results.csv.gz").read_bytes()).decode()
    check_means(table, json.loads(file.read_text()))


INTERVAL = re.compile(r"([+-]?)(\d?\.\d{3}) \[([+-]?)(\d?\.\d{3}), ([+-]?)(\d?\.\d{3})\]")


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_every_interval_that_is_told_is_one_of_a_record(page: str) -> None:
    known = set()
    for file in RECORDS:
        summary = json.loads(file.read_text())
        for form, rows in (("%.3f", summary["arms"]), ("%+.3f", summary["differences"])):
            known |= {tuple(form % row[name] for name in ("mean", "low", "high")) for row in rows}
    told = INTERVAL.findall((ROOT / page).read_text())
    found = {tuple(f"{sign}{'0' * number.startswith('.')}{number}" for sign, number in pairs(one)) for one in told}
    assert found and found <= known


def pairs(parts: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(parts[::2], parts[1::2], strict=True))


def test_every_record_is_told_of() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    assert RECORDS and all(f"results/{file.parent.name}/" in text for file in RECORDS)
