"""results.csv holds everything that means and intervals need."""

from pathlib import Path

import numpy as np
import pytest

from custom.study.scores import CaseScores, FindingScores, Scores
from custom.study.statistics import compare, overall
from custom.study.table import read_table, write_table

RNG = np.random.default_rng(0)
CASES = tuple(f"case{i:02d}" for i in range(12))


def dice(absent: float = 0.2) -> CaseScores:
    values = np.where(RNG.random((12, 3)) < absent, np.nan, RNG.random((12, 3)))
    return CaseScores(CASES, CASES, ("liver", "left, or right", "gall"), values)


def findings() -> FindingScores:
    groups = tuple(f"patient {i // 2}" for i in range(12))
    truth = np.tile(np.eye(2), (6, 1))
    return FindingScores(CASES, groups, ("Mass", "Nodule"), RNG.random((12, 2)), truth, np.arange(12) % 3)


@pytest.mark.parametrize("make", [dice, findings])
def test_a_table_that_is_read_gives_the_scores_that_were_written(make: type, tmp_path: Path) -> None:
    written: dict[tuple, list[Scores]] = {
        (arm, cases, "last"): [make(), make()] for arm in ("self", "scratch") for cases in (6, 0)
    }
    write_table(tmp_path / "results.csv", written)
    read = read_table(tmp_path / "results.csv")
    assert list(read) == list(written)
    for key, seeds in written.items():
        for one, other in zip(seeds, read[key], strict=True):
            assert (one.cases, one.classes) == (other.cases, other.classes)
            np.testing.assert_allclose(one.values, other.values, rtol=1e-5)
            assert overall(one) == pytest.approx(overall(other), abs=1e-5)
    for cases in (6, 0):
        both = [
            compare(table["self", cases, "last"], table["scratch", cases, "last"], 200) for table in (written, read)
        ]
        assert both[0][:3] == pytest.approx(both[1][:3], abs=1e-4)
