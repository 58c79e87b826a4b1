"""The tables of the benchmark, and docs/performance.md and .json."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from custom.errors import InputError
from custom.inferers import has_bfloat16

from .figure import draw
from .goals import in_words, is_met
from .measure import Row
from .parts import PARTS, Part
from .unetr_curve import read_curves, summary

HEADER = "| what | ours | baseline | times better | against | pairs | target |\n|---|---|---|---|---|---|---|"
INTRODUCTION = """# Performance

Written by `make bench`: on two otherwise idle cores about an hour and a half, a part of it by `make bench
ROWS=name,name` with the names in brackets below (`BENCH=FOLDER` writes to another folder than docs). *ours* is what
the bundles do by default, unless the name says otherwise; *against* tells what the *baseline* is, mostly the same
work with MONAI's own parts, put together as in the model zoo's bundles, MONAI's tutorials or the published code.
All sides take turns after a warm-up (in counts and long scans, of a single pair, without). Numbers are medians;
*times better* is the median over pairs of their ratios, so not always that of the two medians, with the smallest
and the largest in brackets: where 1 lies between these, no difference is shown. Where it says bfloat16 against
float32, most of what is gained is the number type, which MONAI's parts can be given too (`torch.autocast`).

Targets are the project's own: *times* means the ratio, *ours* our own number in its
unit.

"""


def machine(threads: int) -> str:
    """What the numbers were measured on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    bfloat16 = "with" if has_bfloat16("cpu") else "without"
    packages = ", ".join(f"{package} {version(package)}" for package in ("torch", "monai", "numpy"))
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{names[0] if names else platform.processor()}, {threads} threads, {bfloat16} bfloat16; {gpu}; "
        f"Python {platform.python_version()}, {packages}"
    )


def table(rows: Sequence[Row], header: bool = True) -> str:
    """Markdown."""
    lines = [HEADER] if header and any(row.ours is not None for row in rows) else []
    for row in (row for row in rows if row.ours is not None):
        compared = row.ratio is not None
        spread = f" ({row.low:.2f} to {row.high:.2f})" if compared and row.n > 1 else ""
        ratio = f"{row.ratio:.2f}{spread}" if compared else ""
        baseline = f"{row.baseline:.4g} {row.unit}" if compared else ""
        cells = [row.name, f"{row.ours:.4g} {row.unit}", baseline, ratio, row.against, str(row.n), in_words(row)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\nNot measured: {row.name} ({row.reason})." for row in rows if row.ours is None)])


def section(part: str, rows: Sequence[Row], figures: Path) -> str:
    """A part's heading, what it measures, its rows, and why targets were missed."""
    about = PARTS.get(part, Part(part, "", 0))
    lines = [f"## {about.title} (`{part}`)", about.what, table(rows).strip()]
    if any(is_met(row) is False for row in rows):
        lines.append(f"Not reached, and why. {about.missed or 'Not known.'}")
    measured = dict.fromkeys(row.commit or "unknown" for row in rows if row.ours is not None)
    lines += [f"Measured at commit {', '.join(measured)}; takes about {about.minutes} minutes."] if measured else []
    lines += loss_curve(figures) if part == "unetr" else []
    return "\n\n".join(lines)


def loss_curve(figures: Path) -> list[str]:
    """What `unetr_curve` found, a command of its own that takes an hour and a half, where it was run."""
    table = figures / "unetr_curve.csv"
    if not table.is_file():
        return []
    command = "`python -m scripts.bench.unetr_curve --output_dir docs/figures`, an hour and a half on two cores"
    return [f"{summary(read_curves(table))} ({command})", "![Loss of three trainings](figures/unetr_curve.png)"]


def write_report(rows: Sequence[Row], output_dir: str | Path, threads: int, anew: bool = False) -> None:
    """performance.md, performance.json and figures/performance.png in `output_dir`.

    Parts that were not measured now keep their rows in performance.json, unless the report begins `anew`. InputError if
    those are of another machine.
    """
    folder = Path(output_dir)
    rows = rows if anew else with_earlier(rows, folder / "performance.json", machine(threads))
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    parts = dict.fromkeys(row.part for row in rows)
    sections = [section(part, [row for row in rows if row.part == part], folder / "figures") for part in parts]
    picture = "![Times better than MONAI](figures/performance.png)"
    text = INTRODUCTION + "\n\n".join([machine(threads), picture, *sections]) + "\n"
    (folder / "performance.md").write_text(text, encoding="utf-8")
    content = {"machine": machine(threads), "rows": [row.as_dict() for row in rows]}
    (folder / "performance.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw([row for row in rows if row.against.startswith("MONAI")], folder / "figures" / "performance.png")


def with_earlier(rows: Sequence[Row], path: Path, machine: str) -> list[Row]:
    """`rows`, each part in the place of its earlier rows in the report `path`, in the order of `PARTS`."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"machine": machine, "rows": []}
    if content["machine"] != machine:
        raise InputError(
            f"{path} was measured elsewhere, or with other packages ({content['machine']}), and this is {machine}; "
            "measure all parts, or give another output_dir (make: BENCH=FOLDER)"
        )
    earlier, measured = [Row(**row) for row in content["rows"]], {row.part for row in rows}
    known = dict.fromkeys(row.part for row in [*earlier, *rows])
    parts = sorted(known, key=lambda part: list(PARTS).index(part) if part in PARTS else len(PARTS))
    return [row for part in parts for row in (rows if part in measured else earlier) if row.part == part]
