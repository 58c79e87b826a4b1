"""`python -m scripts.bench`: all rows, or those named, as a table and, if asked, as a report."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from scripts.command_line import run_command_line

from .report import current_commit, machine, table, write_report

ROWS = ("mae", "unetr", "sample", "native", "segment", "window", "long", "radiographs", "start", "runtimes", "gpu")


def bench(rows: Sequence[str] | str = ROWS, pairs: int = 5, threads: int = 2, output_dir: str | None = None) -> None:
    """Measure and print; with `output_dir`, write the report there, or put these rows into its, after every part.

    Args:
        rows: which of mae, unetr, sample, native, segment, window, long, radiographs, start, runtimes, gpu; commas
        pairs: how many times all sides of a row take turns.
        threads: threads of every process.
        output_dir: folder for performance.md, performance.json and figures/performance.png.
    """
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    torch.set_num_threads(threads)
    names = tuple(rows.split(",")) if isinstance(rows, str) else tuple(rows)
    if unknown := set(names) - set(ROWS):
        sys.exit(f"rows {sorted(unknown)} are unknown; choose among {', '.join(ROWS)}")
    sys.stdout.write(machine(threads) + "\n")
    measured, commit = [], current_commit()
    for name in names:
        module = importlib.import_module(f"scripts.bench.{name}")
        found = [replace(row, part=name, commit=commit) for row in module.measure(pairs)]
        sys.stdout.write(table(found, header=not measured) + "\n")
        sys.stdout.flush()
        measured += found
        if output_dir:  # after every part, so that one that fails loses nothing
            write_report(measured, output_dir, threads)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_command_line(bench)
