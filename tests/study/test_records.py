"""The published records of comparisons: their means follow from their tables."""

import gzip
import json
from pathlib import Path

import pytest

from scripts.tiny import ROOT

from .tables import check_means

RECORDS = sorted((ROOT / "docs" / "results").glob("*/summary.json"))


@pytest.mark.parametrize("file", RECORDS, ids=[file.parent.name for file in RECORDS])
def test_means_follow_from_every_number(file: Path) -> None:
    table = gzip.decompress(file.with_name("results.csv.gz").read_bytes()).decode()
    check_means(table, json.loads(file.read_text()))


def test_every_record_is_told_of() -> None:
    text = (ROOT / "docs" / "results.md").read_text()
    assert RECORDS and all(f"results/{file.parent.name}/" in text for file in RECORDS)
