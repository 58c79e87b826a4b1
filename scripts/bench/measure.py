"""Take turns, repeat, keep ratios: what all rows of the benchmark share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Measured = dict[str, float]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ratio: how many times better ours is, the median over pairs; low and high: the smallest and largest pair.
    All of them, and baseline, are None where there is nothing to compare with. `ours` is None, and `reason` says why,
    where this machine cannot measure the row. part: the module that measured it.
    """

    name: str
    unit: str
    ours: float | None
    n: int
    goal: str = ""
    baseline: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    part: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return asdict(self)


Pairs = list[tuple[Measured, Measured]]


def take_turns(
    ours: Callable[[], Measured], baseline: Callable[[], Measured], pairs: int, warm_up: bool = True
) -> Pairs:
    """Measurements of both, turn and turn about, so that whatever else the machine does meets them alike."""
    measured = [(ours(), baseline()) for _ in range(pairs + warm_up)]
    return measured[warm_up:]


def compare(name: str, metric: str, unit: str, pairs: Pairs, goal: str = "", more_is_better: bool = False) -> Row:
    """The row of one metric: medians of both sides, and of the ratios of the pairs."""
    ours, baseline = ([side[metric] for side in sides] for sides in zip(*pairs, strict=True))
    ratios = [o / b if more_is_better else b / o for o, b in zip(ours, baseline, strict=True)]
    return Row(
        name, unit, median(ours), len(pairs), goal, median(baseline), median(ratios), min(ratios), max(ratios)
    )  # fmt: skip


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


def peak_mib(start: float = 0.0) -> float:
    """This process' largest resident memory since `forget_peak`, beyond `start`, in MiB (Linux)."""
    return _status("VmHWM") - start


def forget_peak() -> float:
    """Begin a new measurement of the peak; returns the resident memory of now in MiB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _status(field: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def run_command(arguments: list[str]) -> Measured:
    """Wall seconds "s" and peak memory "MiB" of `python -m ARGUMENTS`, from its start to its end."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *arguments], cwd=ROOT, env=environment(), stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            log.seek(0)
            raise RuntimeError(f"python -m {' '.join(arguments)} failed:\n{log.read().decode()}")
    return {"s": time.monotonic() - start, "MiB": usage.ru_maxrss / 1024}
