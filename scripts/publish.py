"""Put what a comparison found into the project's record: `python -m scripts.publish OUT docs/results/NAME`.

`python -m scripts.publish docs/results/NAME` computes a record's tables again from its raw numbers.
"""

from __future__ import annotations

import gzip
import shutil
import sys
from pathlib import Path
from typing import Any

from custom.errors import InputError, explain_errors
from custom.files import read_json, replacing
from custom.pretraining import TRIVIAL
from custom.study.figures import draw_cases, png
from custom.study.report import shown
from custom.study.results import computed_again, write_summary
from custom.study.table import read_table

from .command_line import run_command_line

TABLE = "results.csv.gz"
COPIED = ("summary.json", "curves.csv")
RECORD = {*COPIED, TABLE, "curves.png", "cases.png", "pretraining.png"}


def publish(output_dir: str, target: str = "") -> None:
    """Print the tables for docs/results.md; with a target keep summary, figures and, compressed, every number there.

    The means and intervals of a record are computed again from its numbers, and written to its summary.

    Args:
        output_dir: the folder of a comparison that has ended, or of a record.
        target: the folder of the record, replaced if it is there.

    Raises:
        InputError: the comparison has not ended, or the target is a folder that is no such record.
    """
    if target:
        record(Path(output_dir), Path(target))
    file = Path(target or output_dir) / "summary.json"
    if not file.is_file():
        raise InputError(f"{file.parent} has no summary.json; name a comparison that has ended, or a record")
    summary = read_json(file)
    if (table := file.with_name(TABLE)).is_file():
        summary = computed_again(summary, read_table(table))
        summary.pop("answer", None)  # words of the code of that time
        write_summary(summary, file)
        if (picture := file.with_name("cases.png")).is_file():
            picture.write_bytes(png(draw_cases(summary)))
    sys.stdout.write(f"{scores(summary)}\n\n{differences(summary)}\n\n{pretraining(summary)}\n")


def record(source: Path, folder: Path) -> None:
    """Copy what is worth keeping of a comparison."""
    for name in ("report.html", "figures", "results.csv", *COPIED):
        if not (source / name).exists():
            raise InputError(f"{source} has no {name}; run its comparison to the end first")
    if folder.exists() and {path.name for path in folder.iterdir()} - RECORD:
        raise InputError(f"{folder} holds more than a record of a comparison; choose another folder")
    for name in RECORD:
        (folder / name).unlink(missing_ok=True)
    shutil.copytree(source / "figures", folder, dirs_exist_ok=True)
    for name in COPIED:
        shutil.copyfile(source / name, folder / name)
    with replacing(folder / TABLE) as beside:  # of the same numbers always the same bytes
        beside.write_bytes(gzip.compress((source / "results.csv").read_bytes(), mtime=0))


def scores(summary: dict[str, Any]) -> str:
    """Mean and interval of every arm, in Markdown."""
    lines = [
        f"| arm | labelled | {summary['metric']} | 95 % | best on validation | rate, decay | steps | training loss |",
        "|" + "---|" * 8,
    ]
    best = {(row["arm"], row["cases"]): row["mean"] for row in summary["arms"] if row["checkpoint"] == "best"}
    for row in summary["arms"]:
        if row["checkpoint"] == "last":
            other = best.get((row["arm"], row["cases"]))
            choice = f"{row['learning_rate']:g}, {row['layer_decay']:g}" if "learning_rate" in row else ""
            cells = [summary["labels"][row["arm"]], row["labelled"], shown(row["mean"], "%.3f")]
            cells += [interval(row, "%.3f"), "" if other is None else shown(other, "%.3f"), choice]
            loss = f"{row['training_loss']:.3f}" if "training_loss" in row else ""
            lines.append(line([*cells, row.get("steps", ""), loss]))
    return "\n".join(lines)


def differences(summary: dict[str, Any]) -> str:
    """Every paired difference, of the last weights and of those that validated best, in Markdown."""
    lines = ["| difference | labelled | mean | 95 % | best on validation | 95 % |", "|" + "---|" * 6]
    labels, rows = summary["labels"], summary["differences"]
    best = {pair_of(row): row for row in rows if row["checkpoint"] == "best"}
    for row in [row for row in rows if row["checkpoint"] == "last"]:
        cells = [f"{labels[row['arm']]} minus {labels[row['against']]}", row["cases"] or "all"]
        for one in (row, best.get(pair_of(row))):
            cells += [shown(one["mean"], "%+.3f"), interval(one, "%+.3f")] if one else ["", ""]
        lines.append(line(cells))
    return "\n".join(lines)


def interval(row: dict[str, Any], form: str) -> str:
    """Its bounds."""
    return f"{shown(row['low'], form)} to {shown(row['high'], form)}"


def pair_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """What is compared."""
    return row["arm"], row["against"], row["cases"]


def pretraining(summary: dict[str, Any]) -> str:
    """The gate of every pre-training, in Markdown."""
    columns = {"masked_loss": "masked loss"} | dict(zip(TRIVIAL, ("neighbours", "position", "flat"), strict=True))
    columns |= {"lowest_rank": "lowest rank"}
    lines = [line(["pre-training", *columns.values(), "gate"]), "|" + "---|" * (len(columns) + 2)]
    for name, end in summary["pretraining"].items():
        numbers = [f"{end[column]:.3g}" for column in columns]
        lines.append(line([name, *numbers, "passed" if end["passed"] else "not passed"]))
    return "\n".join(lines)


def line(cells: list[Any]) -> str:
    """A row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    explain_errors()
    run_command_line(publish)
