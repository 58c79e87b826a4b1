"""Training steps and inferences leave nothing behind; `make soak` is the same, long enough to see memory grow."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from scripts.tiny import ROOT

from .usage import Usage, growth, read_usage, usage

FLAT = Usage(done=0, memory=1000.0, handles=10, threads=4, children=1, shared=6)


def test_growth_is_measured_after_warm_up() -> None:
    warming = [FLAT._replace(memory=100.0 * number) for number in range(1, 7)]
    assert growth(warming + [FLAT] * 24).memory == 0
    leaking = [FLAT._replace(memory=1000.0 + number, handles=10 + number // 5) for number in range(30)]
    assert growth(leaking).memory == pytest.approx(0.0158, abs=1e-4) and growth(leaking).handles == 3
    busy = [FLAT._replace(handles=10 + number % 3, shared=6 - number % 3) for number in range(30)]
    assert max(growth(busy)[1:]) <= 0


def held_file(folder: Path) -> Callable[[], None]:
    file = (folder / "file").open("w")
    return file.close


def held_shared_memory(folder: Path) -> Callable[[], None]:
    memory = SharedMemory(create=True, size=1000)
    return lambda: (memory.close(), memory.unlink())


def held_memory(folder: Path) -> Callable[[], None]:
    blocks = [bytearray(os.urandom(1000) * 1000) for _ in range(50)]
    return blocks.clear


def held_child(folder: Path) -> Callable[[], None]:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    return child.communicate


@pytest.mark.parametrize(("hold", "name", "least"), [
    (held_file, "handles", 1), (held_shared_memory, "shared", 1), (held_memory, "memory", 40),
    (held_child, "children", 1),
])  # fmt: skip
def test_what_is_held_is_seen_and_what_is_let_go_is_not(
    hold: Callable[[Path], Callable[[], None]], name: str, least: float, tmp_path: Path
) -> None:
    before = usage()
    let_go = hold(tmp_path)
    during = usage()
    let_go()
    assert getattr(during, name) >= getattr(before, name) + least
    assert getattr(usage(), name) < getattr(during, name) - least / 2


@pytest.mark.slow
def test_training_and_inference_hold_no_more_files_threads_or_shared_memory(tmp_path: Path) -> None:
    """60 steps are too few to tell a leak of memory from warming up, so its bound is loose here."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.system.soak", "--output_dir", str(tmp_path / "soak")]
    command += ["--steps", "60", "--inferences", "15", "--most_growth", "0.1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count("nothing grew") == 5 == len(list(tmp_path.glob("soak/*/usage.csv")))
    for file in tmp_path.glob("soak/*/usage.csv"):
        assert len(read_usage(file)) >= 3
