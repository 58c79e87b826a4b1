"""The benchmark's arithmetic: ratios, reports, and a large network that computes what a small one does."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.errors import InputError
from custom.networks import UNETR
from custom.provenance import current_commit
from scripts.bench import report
from scripts.bench.__main__ import bench
from scripts.bench.goals import is_met
from scripts.bench.measure import Row, absent, alone, compare, in_child, run_command, take_turns
from scripts.bench.parts import PARTS
from scripts.bench.report import table, write_report
from scripts.bench.widen import widen
from scripts.bench.window import time_shares


def test_ratios_are_of_pairs_and_larger_is_better_whatever_the_unit() -> None:
    times = [(2.0, 8.0), (1.0, 5.0), (4.0, 8.0)]
    rounds = [{"ours": {"s": own}, "other": {"s": 0.5}, "MONAI": {"s": theirs}} for own, theirs in times]
    row = compare("work", "s", "s", rounds, "MONAI")
    assert row.against == "MONAI"
    assert (row.ours, row.baseline, row.ratio, row.low, row.high, row.n) == (2.0, 8.0, 4.0, 2.0, 5.0, 3)
    speed = compare("work", "s", "images/s", rounds, "MONAI", more_is_better=True)
    assert (speed.ratio, speed.low, speed.high) == (0.25, 0.2, 0.5)
    assert compare("work", "s", "s", rounds, "MONAI", ours="other").ratio == 16


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []

    def side(name: str) -> dict[str, float]:
        calls.append(name)
        return {"call": len(calls)}

    names = ("a", "b", "c")
    rounds = take_turns({name: lambda name=name: side(name) for name in names}, 2)
    assert calls == [*names] * 3
    assert rounds == [{name: {"call": first + place} for place, name in enumerate(names)} for first in (4, 7)]


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


def test_memory_of_a_command_is_its_own_and_not_its_parents() -> None:
    held = np.ones(400 * 2**20, np.uint8)  # as a benchmark holds what an earlier row has left
    measured = run_command(["json.tool", "--help"])
    assert 5 < measured["MiB"] < 100 < held.nbytes / 2**20 and 0 < measured["s"] < 30


def test_shares_of_time_find_what_takes_it_and_add_up() -> None:
    network, image = torch.nn.Conv2d(16, 16, 5), torch.rand(1, 16, 128, 128)
    shares = time_shares(lambda: network(image))
    assert shares["convolutions"] > 50 and shares["products of matrices"] == 0
    assert sum(shares.values()) == pytest.approx(100)


def test_the_report_holds_every_row(tmp_path: Path) -> None:
    rows = [
        compare("step", "s", "s", [{"ours": {"s": 1.0}, "MONAI's step": {"s": 3.0}}] * 5, "MONAI's step", "times >= 2"),
        alone("cells with several classes", "%", [1.5, 2.5]),
    ]
    write_report(rows, tmp_path, threads=2)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert table(rows) in text
    assert "| step | 1 s | 3 s | 3.00 (3.00 to 3.00) | MONAI's step | 5 | times >= 2: reached |" in text
    content = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert [Row(**row) for row in content["rows"]] == rows
    assert (tmp_path / "figures" / "performance.png").stat().st_size > 1000


def test_a_single_pair_has_no_range() -> None:
    row = compare("step", "s", "s", [{"ours": {"s": 1.0}, "MONAI": {"s": 3.0}}], "MONAI")
    assert table([row]).endswith("| step | 1 s | 3 s | 3.00 | MONAI | 1 |  |")


def test_the_figure_shows_rows_against_monai_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [{"ours": {"s": 1.0}, "MONAI's step": {"s": 3.0}, "PyTorch": {"s": 2.0}}]
    drawn: list[Row] = []
    monkeypatch.setattr(report, "draw", lambda rows, path: drawn.extend(rows))
    rows = [compare(against, "s", "s", rounds, against) for against in ("MONAI's step", "PyTorch")]
    write_report([*rows, alone("size", "MiB", [1.0])], tmp_path, 2)
    assert [row.name for row in drawn] == ["MONAI's step"]


def test_the_report_tells_the_commits_of_its_parts(tmp_path: Path) -> None:
    write_report([replace(alone(name, "s", [1.0]), part=name, commit="old") for name in ("a", "b")], tmp_path, 2)
    write_report([replace(alone("b", "s", [1.0]), part="b", commit="new")], tmp_path, 2)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert text.index("## a (`a`)") < text.index("commit old") < text.index("## b (`b`)") < text.index("commit new")


def test_a_part_that_fails_loses_nothing_of_those_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr("scripts.bench.mae.measure", lambda pairs: [alone("a step", "s", [1.0])])
    monkeypatch.setattr("scripts.bench.unetr.measure", lambda pairs: [][0])
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with pytest.raises(IndexError):
        bench("mae,unetr", threads=threads, output_dir=str(tmp_path))
    (row,) = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))["rows"]
    assert (row["name"], row["part"], row["commit"]) == ("a step", "mae", current_commit())


def test_rows_measured_again_replace_those_of_their_part_alone(tmp_path: Path) -> None:
    write_report([replace(alone(name, "s", [1.0]), part=name[0]) for name in ("a1", "a2", "b1")], tmp_path, 2)
    write_report([replace(alone("a3", "s", [2.0]), part="a")], tmp_path, 2)
    content = json.loads((tmp_path / "performance.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in content["rows"]] == ["a3", "b1"]


def test_a_report_of_another_machine_is_not_touched(tmp_path: Path) -> None:
    write_report([replace(alone("a", "s", [1.0]), part="a")], tmp_path, 2)
    before = (tmp_path / "performance.json").read_bytes()
    with pytest.raises(InputError, match=r"was measured elsewhere, .* 2 threads.* give another output_dir"):
        write_report([replace(alone("c", "s", [2.0]), part="c")], tmp_path, 1)
    assert (tmp_path / "performance.json").read_bytes() == before


@pytest.mark.parametrize(
    ("goal", "met"),
    [("times >= 3", True), ("times >= 3.1", False), ("ours <= 1, times >= 2", True), ("ours < 1", False), ("", None)],
)
def test_targets_are_compared_with_what_was_measured(goal: str, met: bool | None) -> None:
    row = compare("step", "s", "s", [{"ours": {"s": 1.0}, "MONAI": {"s": 3.0}}], "MONAI", goal)
    assert is_met(row) is met
    assert ("not reached" in table([row])) == (met is False)


def test_a_missed_target_is_explained_and_what_was_not_measured_is_named(tmp_path: Path) -> None:
    rows = [replace(alone("dice", "", [0.7], "ours >= 0.9"), part="segment"), replace(absent("x", "why"), part="gpu")]
    write_report(rows, tmp_path, 2)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert PARTS["segment"].missed in text and "Not measured: x (why)." in text


@pytest.mark.parametrize("given", [{"rows": "mea"}, {"rows": True}, {"pairs": 0}, {"pairs": "x"}, {"threads": 0}])
def test_options_that_make_no_sense_are_one_sentence(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"rows|pairs|threads"):
        bench(**given)


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
