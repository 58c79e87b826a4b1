"""What a process and its children hold: memory, open files, threads, shared memory. Linux only, from /proc."""

from __future__ import annotations

import csv
import ctypes
import gc
import os
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ignite.engine import Engine, Events

SHARED = "/dev/shm/"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """done: iterations so far; memory: resident, in MiB, of the process and its children; the others are counts."""

    done: int
    memory: float
    handles: int
    threads: int
    children: int
    shared: int


def usage(done: int = 0) -> Usage:
    """Now. Garbage is collected and freed memory given back first, so that what stays is what something still holds."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    me, children = os.getpid(), list(descendants(os.getpid()))
    memory = sum(resident(process) for process in (me, *children)) / 2**20
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # but for the one that lists them
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    return Usage(done, round(memory, 1), handles, threads, len(children), sum(map(shared, (me, *children))))


def descendants(process: int) -> Iterator[int]:
    """Processes that this one made, and theirs."""
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, file.read_text().split()):
            yield child
            yield from descendants(child)


def resident(process: int) -> int:
    """Bytes of a process's memory; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def shared(process: int) -> int:
    """Parts of shared memory that a process has mapped or open; 0 where it has ended."""
    try:
        maps = {line.split()[4] for line in Path(f"/proc/{process}/maps").read_text().splitlines() if SHARED in line}
        files = list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return 0
    return len(maps) + sum(map(is_shared, files))


def is_shared(file: Path) -> bool:
    """Whether an open file, a link in /proc, is shared memory; the one that listed it is closed by now."""
    try:
        return str(file.readlink()).startswith(SHARED)
    except OSError:
        return False


class Watch:
    """Ignite handler, for a config: one line of `path` (CSV) every `interval` iterations of the engine."""

    def __init__(self, path: str, interval: int) -> None:
        self.path, self.interval = Path(path), interval

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or an evaluator, as its last handler."""
        with self.path.open("w", newline="") as file:
            csv.writer(file).writerow(Usage._fields)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self)

    def __call__(self, engine: Engine) -> None:
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow(usage(engine.state.iteration))


class Growth(NamedTuple):
    """From the first third after warm-up to the last: memory as a fraction, of medians; the others as counts.

    Counts go up and down with the batches that are on their way from a worker process, so their median at the end is
    compared with the most that was seen before.
    """

    memory: float
    handles: float
    threads: float
    shared: float


def read_usage(path: Path) -> list[Usage]:
    """What a `Watch` wrote."""
    with path.open(newline="") as file:
        return [Usage(*(float(value) for value in row)) for row in list(csv.reader(file))[1:]]


def growth(samples: list[Usage]) -> Growth:
    """Of what was seen after a warm-up, the first fifth."""
    warm = samples[len(samples) // 5 :]
    third = len(warm) // 3

    def parts(name: str) -> tuple[list[float], list[float]]:
        values = [getattr(one, name) for one in warm]
        return values[:third], values[-third:]

    first, last = map(median, parts("memory"))
    counts = map(parts, ("handles", "threads", "shared"))
    return Growth(last / first - 1, *(median(after) - max(before) for before, after in counts))
