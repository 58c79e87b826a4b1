"""Take turns, repeat, keep ratios: what all rows of the benchmark share."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.02  # seconds between two looks at a command's memory
Measured = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    against: what the baseline is, in words. ratio: how many times better ours is, the median over pairs; low and high:
    the smallest and largest pair. All of them are empty where there is nothing to compare with. `ours` is None, and
    `reason` says why, where this machine cannot measure the row. part, commit: the module that measured it, and when.
    """

    name: str
    unit: str
    ours: float | None
    n: int
    goal: str = ""
    against: str = ""
    baseline: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    part: str = ""
    commit: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


Sides = Mapping[str, Callable[[], Measured]]
Rounds = Sequence[Mapping[str, Measured]]


def take_turns(sides: Sides, rounds: int, warm_up: bool = True) -> Rounds:
    """Measurements of all sides by name, turn and turn about, so that whatever else the machine does meets them alike.

    Sides that warm up by themselves, as a process of their own has to, need no round for it.
    """
    measured = [{name: side() for name, side in sides.items()} for _ in range(rounds + warm_up)]
    return measured[warm_up:]


def compare(
    name: str,
    metric: str,
    unit: str,
    rounds: Rounds,
    against: str,
    goal: str = "",
    ours: str = "ours",
    more_is_better: bool = False,
) -> Row:
    """The row of one metric of the sides `ours` and `against`: medians of both, and of the ratios of the rounds."""
    own, other = ([sides[side][metric] for sides in rounds] for side in (ours, against))
    ratios = [o / b if more_is_better else b / o for o, b in zip(own, other, strict=True)]
    middle = median(ratios)
    return Row(name, unit, median(own), len(rounds), goal, against, median(other), middle, min(ratios), max(ratios))


def alone(name: str, unit: str, values: list[float], goal: str = "") -> Row:
    """A row without a baseline: the median of `values`."""
    return Row(name, unit, median(values), len(values), goal)


def absent(name: str, reason: str) -> Row:
    """A row that this machine cannot measure, for the report's list of what was not measured."""
    return Row(name, "", None, 0, reason=reason)


def in_child(function: Callable[..., Measured], *arguments: Any) -> Measured:
    """Call a module's function in a process of its own, and add that process' peak memory, "MiB"."""
    command = [sys.executable, "-W", "ignore", "-m", "scripts.bench.child", function.__module__, function.__name__]
    done = subprocess.run(
        [*command, json.dumps(arguments)], cwd=ROOT, env=environment(), capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{function.__module__}.{function.__name__} failed:\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """The environment of a child: this project's modules, and nobody's progress bars."""
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def give_back() -> None:
    """Return free memory to the system, so that what is held can be measured (Linux with glibc)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)


def peak_mib(start: float = 0.0) -> float:
    """This process' largest resident memory since `forget_peak`, beyond `start`, in MiB (Linux)."""
    return status_mib("VmHWM") - start


def forget_peak() -> float:
    """Begin a new measurement of the peak; returns the resident memory of now in MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status_mib("VmRSS")


def status_mib(field: str, process: int | str = "self") -> float:
    """A field of a process' status in MiB, this one's by default; 0 for one that has ended (Linux)."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0) / 1024


def run_command(arguments: list[str]) -> Measured:
    """Wall seconds "s" and peak memory "MiB" of `python -m ARGUMENTS`, from its start to its end.

    The peak is the largest one read while it ran: the one that a process leaves behind counts its parent's as well.
    """
    start, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *arguments], cwd=ROOT, env=environment(), stdout=log, stderr=log
        )
        while process.poll() is None:
            peak = max(peak, status_mib("VmHWM", process.pid))
            time.sleep(POLL)
        if process.returncode:
            log.seek(0)
            raise RuntimeError(f"python -m {' '.join(arguments)} failed:\n{log.read().decode()}")
    return {"s": time.monotonic() - start, "MiB": peak}
