"""Does self pre-training help on your images? `python -m scripts.compare --bundle B --dataset_dir D --output_dir O`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from custom.errors import InputError, explain_errors
from custom.study.answer import answer
from custom.study.compare import run_comparison
from custom.study.settings import read_settings

from .command_line import run_command_line


def compare(
    output_dir: str,
    bundle: str | None = None,
    dataset_dir: str | Sequence[str] | None = None,
    settings: str | None = None,
    cases: str | Sequence[int] | int | None = None,
    seeds: int | None = None,
    arms: str | Sequence[str] | None = None,
    workers: int = 0,
    **more: Any,
) -> None:
    """Fine-tune from scratch, from self pre-training and from controls, and report the difference with its interval.

    Run the same command again after an interruption: what is done is not done again.

    Args:
        output_dir: for all runs, results.csv, summary.json and report.html.
        bundle: the task bundle, such as bundles/unetr_btcv.
        dataset_dir: images and labels, in a layout the bundle reads.
        settings: a JSON file with any of these and of the settings in custom/study/settings.py, among them options
            of the bundles.
        cases: numbers of labelled training cases with commas between, "all" for all.
        seeds: repetitions.
        arms: with commas between; see custom/study/settings.py.
        workers: commands at a time; 0 for one a GPU, or one a CPU core.
        more: any other setting of custom/study/settings.py.
    """
    given = {"bundle": bundle, "dataset_dir": dataset_dir, "cases": cases, "seeds": seeds, "arms": arms, **more}
    folder, results = Path(str(output_dir)), None
    with suppress(KeyboardInterrupt):
        results = run_comparison(read_settings(settings, **given), folder, workers, say)
    if results is None:  # raised above, the sentence would have the interruption as its cause
        raise InputError("interrupted; the same command goes on from here")
    say(f"\n{answer(results)}\n\nReport: {folder / 'report.html'}")


def say(line: str) -> None:
    """One line for the person watching."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    explain_errors()
    run_command_line(compare)
