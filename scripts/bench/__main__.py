"""`python -m scripts.bench`: all rows, or those named, as a table, and in docs/ where all were measured."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

import fire
import torch

from .measure import ROOT
from .report import machine, table, write_report

ROWS = ("mae", "unetr", "sample", "native", "segment", "long", "radiographs", "start", "runtimes", "gpu")


def bench(rows: Sequence[str] | str = ROWS, pairs: int = 5, threads: int = 2, output_dir: str | None = None) -> None:
    """Measure and print; with `output_dir`, and by default in docs/ when every row is measured, write the report.

    Args:
        rows: which of mae, unetr, sample, native, segment, long, radiographs, start, runtimes, gpu; commas between.
        pairs: how many times both sides take turns after a warm-up.
        threads: threads of every process.
        output_dir: folder for performance.md, performance.json and figures/performance.png.
    """
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    torch.set_num_threads(threads)
    names = tuple(rows.split(",")) if isinstance(rows, str) else tuple(rows)
    if unknown := set(names) - set(ROWS):
        sys.exit(f"rows {sorted(unknown)} are unknown; choose among {', '.join(ROWS)}")
    sys.stdout.write(machine(threads) + "\n")
    measured = []
    for name in names:
        found = importlib.import_module(f"scripts.bench.{name}").measure(pairs)
        sys.stdout.write(table(found, header=not measured) + "\n")
        sys.stdout.flush()
        measured += found
    if output_dir or set(names) == set(ROWS):
        write_report(measured, output_dir or ROOT / "docs", threads)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    fire.Fire(bench)
