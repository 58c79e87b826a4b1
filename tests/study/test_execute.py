"""Runs: their order, their failures, and what is not done twice."""

import errno
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.study.execute import Executor, locked, visible_gpus
from custom.study.run import Run


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Its runs append their name to a file, divide by zero, or diverge."""
    configs = tmp_path / "bundle" / "configs"
    configs.mkdir(parents=True)
    good = {"run": ["$open(@journal, 'a').write(@word + ' ')"]}
    (configs / "good.json").write_text(json.dumps(good))
    (configs / "bad.json").write_text(json.dumps({"run": ["$1 / 0"]}))
    diverges = {"_target_": "custom.findings.check_finite", "scores": "$__import__('numpy').full((1, 1), float('nan'))"}
    (configs / "diverging.json").write_text(json.dumps({"run": [diverges]}))
    return tmp_path / "bundle"


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    return Executor(tmp_path / "out", 1, 3.0, lambda line: None)


def good(bundle: Path, name: str, *needs: str) -> Run:
    overrides = {"journal": str(bundle / "journal.txt"), "word": name.partition("/")[2]}
    return Run(name, bundle, ("good",), overrides, 1.0, needs)


def bad(bundle: Path, name: str, how: str = "bad") -> Run:
    return Run(name, bundle, (how,), {})


def journal(bundle: Path) -> list[str]:
    return (bundle / "journal.txt").read_text().split()


@pytest.mark.slow
def test_runs_wait_for_what_they_need_and_are_done_once(bundle: Path, executor: Executor) -> None:
    runs = [good(bundle, "train/b", "train/a"), good(bundle, "train/a"), good(bundle, "train/c", "train/b")]
    executor.execute("runs", runs)
    executor.execute("runs", runs)
    assert journal(bundle) == ["a", "b", "c"]


@pytest.mark.slow
def test_what_was_done_before_is_taken_from_the_work_to_come_once(bundle: Path, tmp_path: Path) -> None:
    runs, lines = [good(bundle, f"train/{name}") for name in "abcd"], []
    Executor(tmp_path / "out", 1, 4.0, print).execute("runs", runs[:1])
    executor = Executor(tmp_path / "out", 1, 4.0, lines.append)
    for stage in (runs[:2], runs[:2], runs):
        executor.execute("runs", stage)
    assert [line.partition(":")[0] for line in lines] == ["runs", "train/b", "runs", "train/c", "train/d"]
    assert lines[0].endswith("1 of 2 to do") and lines[2].endswith("2 of 4 to do")
    assert ["left" in line for line in lines] == [False, True, False, True, False] and executor.total == 3.0


@pytest.mark.slow
def test_many_short_runs_side_by_side_all_end_well(bundle: Path, tmp_path: Path) -> None:
    executor = Executor(tmp_path / "out", 8, 1.0, lambda line: None)
    executor.execute("runs", [good(bundle, f"train/{number}") for number in range(60)])
    assert sorted(map(int, journal(bundle))) == list(range(60))


@pytest.mark.slow
def test_a_failure_is_told_with_its_last_words_and_tried_again(bundle: Path, executor: Executor) -> None:
    for _ in range(2):
        with pytest.raises(InputError, match=r"train/x failed: .*1 / 0"):
            executor.execute("runs", [bad(bundle, "train/x")])


@pytest.mark.slow
def test_what_may_diverge_stops_only_what_needs_it(bundle: Path, executor: Executor) -> None:
    runs = [bad(bundle, "train/x", "diverging"), good(bundle, "score/x", "train/x"), good(bundle, "train/y")]
    executor.execute("runs", runs, may_fail=runs)
    assert journal(bundle) == ["y"] and executor.failed("train/x") and not executor.failed("train/y")
    with pytest.raises(InputError, match=r"train/z diverged; .*lower"):
        executor.execute("runs", [bad(bundle, "train/z", "diverging")])


@pytest.mark.slow
def test_what_ends_in_another_way_is_tried_again(bundle: Path, executor: Executor) -> None:
    run = bad(bundle, "train/x")
    for _ in range(2):
        with pytest.raises(InputError, match="1 / 0"):
            executor.execute("runs", [run], may_fail=[run])
    assert not executor.failed("train/x")


def test_a_run_of_the_same_name_with_other_settings_is_refused(bundle: Path, executor: Executor) -> None:
    file = executor.done_file("train/a").with_name("run.json")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"word": "other"}))
    with pytest.raises(InputError, match="other settings"):
        executor.execute("runs", [good(bundle, "train/a")])


@pytest.mark.slow
def test_what_was_made_from_weights_that_were_made_again_is_made_again(bundle: Path, executor: Executor) -> None:
    runs = [good(bundle, "train/a"), good(bundle, "train/b", "train/a"), good(bundle, "train/c", "train/b")]
    runs.append(good(bundle, "train/d"))
    executor.execute("runs", runs)
    shutil.rmtree(executor.done_file("train/a").parent)
    lines: list[str] = []
    Executor(executor.folder, 1, 1.0, lines.append).execute("runs", runs)
    assert sorted(journal(bundle)[:4]) == ["a", "b", "c", "d"] and journal(bundle)[4:] == ["a", "b", "c"]
    assert lines[0] == "train/b: to be run again, as train/a was"


def test_needs_that_nothing_makes_are_a_fault_and_no_endless_wait(bundle: Path, executor: Executor) -> None:
    with pytest.raises(ValueError, match="which nothing makes"):
        executor.execute("runs", [good(bundle, "train/b", "train/a")])


@pytest.mark.parametrize("workers", [-1, 1.5, "two"])
def test_a_number_of_workers_that_is_none_is_refused(tmp_path: Path, workers: object) -> None:
    with pytest.raises(InputError, match=f"workers is {workers!r}"):
        Executor(tmp_path, workers, 1.0, print)


@pytest.mark.parametrize(("number", "refused"), [(errno.EAGAIN, True), (errno.ENOLCK, False)])
def test_only_a_lock_that_is_held_keeps_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refused: bool
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(InputError, match="another comparison") if refused else nullcontext(), locked(tmp_path):
        pass


def test_two_comparisons_in_one_folder_are_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(InputError, match="another comparison"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_gpus_are_those_that_the_user_left_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-8f")
    assert visible_gpus() == ["2", "GPU-8f"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_gpus() == ["0", "1"]
