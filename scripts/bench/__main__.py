"""`python -m scripts.bench`: all rows, or those named, as a table and, if asked, as a report."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch

from custom.errors import InputError, explain_errors
from custom.provenance import current_commit
from scripts.command_line import run_command_line

from .parts import PARTS
from .report import machine, table, write_report

ROWS = tuple(PARTS)


def bench(rows: Sequence[str] | str = ROWS, pairs: int = 5, threads: int = 2, output_dir: str | None = None) -> None:
    """Measure and print; with `output_dir`, write the report there, or put these rows into its, after every part.

    Args:
        rows: which parts, with commas; see `parts.py`. "" measures none and writes the report again.
        pairs: how many times all sides of a row take turns.
        threads: threads of every process.
        output_dir: folder for performance.md, performance.json and figures/performance.png.
    """
    names = chosen(rows)
    for option, value in (("pairs", pairs), ("threads", threads)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{option} is {value!r}; set it to 1 or more")
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    torch.set_num_threads(threads)
    sys.stdout.write(machine(threads) + "\n")
    measured, commit = [], current_commit()
    anew = set(names) == set(ROWS)
    if output_dir and not anew:  # refused before anything is measured in vain
        write_report(measured, output_dir, threads)
    for place, name in enumerate(names, start=1):
        sys.stderr.write(f"{name}, {place} of {len(names)}, about {PARTS[name].minutes} minutes\n")
        module = importlib.import_module(f"scripts.bench.{name}")
        found = [replace(row, part=name, commit=commit) for row in module.measure(pairs)]
        sys.stdout.write(table(found, header=not measured) + "\n")
        sys.stdout.flush()
        measured += found
        if output_dir:  # after every part, so that one that fails loses nothing
            write_report(measured, output_dir, threads, anew)


def chosen(rows: Sequence[str] | str) -> tuple[str, ...]:
    """The names of parts in an option; InputError for others."""
    if not isinstance(rows, str | list | tuple):
        raise InputError(f"rows is {rows!r}; choose among {', '.join(ROWS)}, with commas between")
    names = tuple(rows.split(",")) if isinstance(rows, str) else tuple(rows)
    names = tuple(name for name in names if name)
    if unknown := [name for name in names if name not in ROWS]:
        raise InputError(f"rows {unknown[0]!r} are unknown; choose among {', '.join(ROWS)}, with commas between")
    return names


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    explain_errors()
    run_command_line(bench)
