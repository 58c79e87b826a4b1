"""What the pages tell of comparisons stands in the published records, in the right row and column."""

import json
import re
from collections.abc import Iterator

import pytest

from scripts.tiny import ROOT

from .tables import LIMITS, RECORDS

Told = set[tuple[str, ...]]  # (mean, low, high), as "+0.011" or "0.625"
ARMS = {  # as the pages call them
    "from scratch": "scratch", "scratch": "scratch", "from scratch, same compute": "scratch_long",
    "scratch, same compute": "scratch_long", "scratch with the same compute": "scratch_long",
    "self pre-trained": "self", "pre-trained on shuffled patches": "broken", "shuffled patches": "broken",
    "pre-trained on images with shuffled patches": "broken", "pixels": "pixels",
    "a regression on thumbnails, no network": "pixels", "random encoder, frozen": "probe_scratch",
    "self pre-trained encoder, frozen": "probe_self", "encoder of shuffled patches, frozen": "probe_broken",
    "frozen: self pre-trained": "probe_self", "random": "probe_scratch",
    "frozen: shuffled patches": "probe_broken", "ratio .125": "ratio125",
    "self pre-trained: ratio .75": "self", "ratio .5": "ratio50", "ratio from .6 to .9": "range", "raw target": "raw",
    "rate .00015": "slow",
    "self pre-trained, patches with tissue masked first": "tissue",
    "the same, patches with tissue masked first": "probe_tissue",
    "self pre-trained, raw target": "raw", "the same, raw target": "probe_raw",
}  # fmt: skip
INTERVAL = re.compile(r"([+-]?)(\d?\.\d{3}) \[([+-]?)(\d?\.\d{3}), ([+-]?)(\d?\.\d{3})\]")


def told_in(text: str) -> Told:
    """Every interval."""
    parts = [list(zip(one[::2], one[1::2], strict=True)) for one in INTERVAL.findall(text)]
    return {tuple(f"{sign}{'0' * number.startswith('.')}{number}" for sign, number in one) for one in parts}


def known_of(record: str, arms: tuple[str, ...] = (), labelled: str = "") -> Told:
    """Those of a record: all, or those of an arm or of the difference of two, with any or so many labelled cases."""
    summary, found = json.loads((ROOT / "docs" / "results" / record / "summary.json").read_text()), set()
    counts = {row["cases"]: str(row["labelled"]) for row in summary["arms"]}
    for form, rows in (("%.3f", summary["arms"]), ("%+.3f", summary["differences"])):
        for row in rows:
            names = tuple(row[name] for name in ("arm", "against") if name in row)
            if labelled in ("", str(row["cases"]), counts[row["cases"]]) and arms in ((), names):
                found.add(tuple(form % row[name] for name in LIMITS))
    return found


def arms_of(words: str) -> tuple[str, ...]:
    """Of a row or a column, such as "self pre-trained minus scratch", whose last words may be no name."""
    names = []
    for part in re.sub(r" \(.*\)", "", words).split(" minus "):
        pieces = part.strip(" ,").split(",")
        known = [",".join(pieces[:count]) for count in range(len(pieces), 0, -1)]
        names.append(next((ARMS[name] for name in known if name in ARMS), None))
    return tuple(names) if all(names) else ()


def cells_of(text: str) -> Iterator[tuple[str, str, str]]:
    """(row, column, cell) of every cell of its tables that tells an interval."""
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        for first, *cells in rows:
            yield from ((first, title, cell) for title, cell in zip(head[1:], cells, strict=True) if told_in(cell))


def sections() -> dict[str, str]:
    """Of results.md, by the name that begins their titles; "a, last" is the record a."""
    parts = re.split(r"^## ", (ROOT / "docs" / "results.md").read_text(), flags=re.MULTILINE)[1:]
    return {re.split("[,:]", part)[0]: part for part in parts}


@pytest.mark.parametrize("record", [file.parent.name for file in RECORDS])
def test_every_interval_of_a_section_is_one_of_its_record(record: str) -> None:
    told = told_in(sections()[record])
    assert told and told <= known_of(record)


@pytest.mark.parametrize("record", [file.parent.name for file in RECORDS])
def test_the_tables_of_a_section_tell_each_arm_in_its_row(record: str) -> None:
    checked = 0
    for row, column, cell in cells_of(sections()[record]):
        arms, count = arms_of(row), re.match(r"(\d+) labelled", column)
        if column.startswith("minus"):
            arms = (*arms, "scratch")
        elif column.startswith("frozen"):
            arms = tuple(f"probe_{arm}" for arm in ((*arms, "scratch") if "minus" in column else arms))
        assert arms, f"{row!r} is no arm; name it in ARMS"
        assert told_in(cell) <= known_of(record, arms, count.group(1) if count else ""), (row, column)
        checked += 1
    assert checked > 3


def test_the_tables_of_the_readme_tell_each_arm_in_its_row() -> None:
    xrays, _, rest = (ROOT / "README.md").read_text().partition("**Hippocampus**")
    cells = [("a", row, column, cell) for row, column, cell in cells_of(xrays)]
    cells += [("b", row, column, cell) for row, column, cell in cells_of(rest)]
    for record, row, column, cell in cells:
        if record == "a":
            arms, labelled = arms_of(row.partition(":")[0]), ""
            arms = ("self", *arms) if "minus it" in column else arms
        else:
            arms, labelled = arms_of(column.removeprefix("minus ")), row
            arms = ("self", *arms) if column.startswith("minus ") else arms
        assert arms and told_in(cell) <= known_of(record, arms, labelled), (row, column)
    assert {record for record, *_ in cells} == {"a", "b"}


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
