"""The benchmark's arithmetic: ratios, reports, and a large network that computes what a small one does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from custom.networks import UNETR
from scripts.bench.measure import Row, alone, compare, in_child, run_command, take_turns
from scripts.bench.report import table, write_report
from scripts.bench.widen import widen


def test_ratios_are_of_pairs_and_larger_is_better_whatever_the_unit() -> None:
    pairs = [({"s": 2.0}, {"s": 8.0}), ({"s": 1.0}, {"s": 5.0}), ({"s": 4.0}, {"s": 8.0})]
    row = compare("work", "s", "s", pairs)
    assert (row.ours, row.baseline, row.ratio, row.low, row.high, row.n) == (2.0, 8.0, 4.0, 2.0, 5.0, 3)
    speed = compare("work", "s", "images/s", pairs, more_is_better=True)
    assert (speed.ratio, speed.low, speed.high) == (0.25, 0.2, 0.5)


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> dict[str, float]:
        calls.append(name)
        return {"call": len(calls)}

    pairs = take_turns(lambda: side("ours"), lambda: side("baseline"), 2)
    assert calls == ["ours", "baseline"] * 3
    assert pairs == [({"call": 3}, {"call": 4}), ({"call": 5}, {"call": 6})]


def allocate(mebibytes: int) -> dict[str, float]:
    """Hold so much memory for a moment."""
    return {"last": float(torch.ones(mebibytes * 2**20, dtype=torch.uint8)[-1])}


@pytest.mark.slow
def test_a_child_tells_its_result_and_its_peak_memory() -> None:
    small, large = (in_child(allocate, size) for size in (1, 400))
    assert small["last"] == large["last"] == 1
    assert 350 < large["MiB"] - small["MiB"] < 500


def test_a_failing_command_is_told_with_its_output() -> None:
    with pytest.raises(RuntimeError, match="No module named no_such_module"):
        run_command(["no_such_module"])


def test_the_report_holds_every_row(tmp_path: Path) -> None:
    rows = [
        compare("step", "s", "s", [({"s": 1.0}, {"s": 3.0})] * 5, ">= 2"),
        alone("cells with several classes", "%", [1.5, 2.5]),
    ]
    write_report(rows, tmp_path, threads=2)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert table(rows) in text and "| step | 1 s | 3 s | 3.00 (3.00 to 3.00) | 5 | >= 2 |" in text
    content = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert [Row(**row) for row in content["rows"]] == rows
    assert (tmp_path / "figures" / "performance.png").stat().st_size > 1000


def test_rows_measured_again_replace_those_of_their_part_alone(tmp_path: Path) -> None:
    write_report([replace(alone(name, "s", [1.0]), part=name[0]) for name in ("a1", "a2", "b1")], tmp_path, 2)
    write_report([replace(alone("a3", "s", [2.0]), part="a")], tmp_path, 2)
    content = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["rows"]] == ["a3", "b1"]
    write_report([replace(alone("c1", "s", [2.0]), part="c")], tmp_path, 1)  # another machine
    content = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["rows"]] == ["c1"]


def test_a_widened_network_computes_what_the_small_one_does() -> None:
    torch.manual_seed(0)
    common = {"in_channels": 1, "out_channels": 5, "img_size": (16, 16, 16), "patch_size": 8, "num_layers": 3}
    small = UNETR(**common, feature_size=4, hidden_size=24, num_heads=2).eval()
    for parameter in small.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    large = widen(small, UNETR(**common, feature_size=8, hidden_size=96, num_heads=8).eval())
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        expected, found = small(image), large(image)
    assert expected.std() > 0.1 and torch.allclose(found, expected, atol=1e-4)
