"""The table of the benchmark, and docs/performance.md, .json and figure."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from custom.inferers import has_bfloat16

from .measure import ROOT, Row

HEADER = "| what | ours | baseline | times better | against | pairs | asked |\n|---|---|---|---|---|---|---|"
INTRODUCTION = """# Performance

Written by `make bench`. *ours* is what the bundles do by default, unless the name says otherwise; *against* tells what
the *baseline* is, mostly the same work with MONAI's own parts, put together as in the model zoo's bundles, MONAI's
tutorials or the published code. All sides take turns after a warm-up, in one run or, where memory is compared, each in
a new process (rows of a single pair have no warm-up). Numbers are medians; *times better* is the median ratio of the
pairs and, in brackets, the smallest and largest. `python -m scripts.bench --rows NAME` repeats a part; the modules of
`scripts/bench/` say what each does.

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
    lines = [HEADER] if header else []
    for row in rows:
        if row.ours is None:
            continue
        compared = row.ratio is not None
        spread = f" ({row.low:.2f} to {row.high:.2f})" if compared and row.n > 1 else ""
        ratio = f"{row.ratio:.2f}{spread}" if compared else ""
        baseline = f"{row.baseline:.4g} {row.unit}" if compared else ""
        cells = [row.name, f"{row.ours:.4g} {row.unit}", baseline, ratio, row.against, str(row.n), row.goal]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\nNot measured: {row.name} ({row.reason})." for row in rows if row.ours is None)])


def write_report(rows: Sequence[Row], output_dir: str | Path, threads: int) -> None:
    """performance.md, performance.json and figures/performance.png in `output_dir`.

    Parts that were not measured now keep their rows in performance.json, if those are of this machine too.
    """
    folder = Path(output_dir)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    rows = with_earlier(rows, folder / "performance.json", machine(threads))
    parts = [
        f"{machine(threads)}\n\n{commits(rows)}",
        table(rows),
        "![Times better than MONAI](figures/performance.png)",
    ]
    text = INTRODUCTION + "\n\n".join(parts) + "\n"
    (folder / "performance.md").write_text(text, encoding="utf-8")
    content = {"machine": machine(threads), "rows": [row.as_dict() for row in rows]}
    (folder / "performance.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    draw([row for row in rows if row.against.startswith("MONAI")], folder / "figures" / "performance.png")


def commits(rows: Sequence[Row]) -> str:
    """Which parts were measured at which commit."""
    parts: dict[str, list[str]] = {}
    for row in rows:
        names = parts.setdefault(row.commit or "unknown", [])
        names += [row.part] if row.part not in names else []
    return "Measured at commit " + "; ".join(f"{commit}: {', '.join(names)}" for commit, names in parts.items()) + "."


def current_commit() -> str:
    """Short hash of the code here, with "-dirty" where what is measured differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "bundles", "custom", "scripts")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def with_earlier(rows: Sequence[Row], path: Path, machine: str) -> list[Row]:
    """`rows`, each part in the place of its earlier rows in the report `path`, where that is of the same machine."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    earlier = [Row(**row) for row in content.get("rows", [])] if content.get("machine") == machine else []
    parts = dict.fromkeys(row.part for row in [*earlier, *rows])
    measured = {row.part for row in rows}
    return [row for part in parts for row in (rows if part in measured else earlier) if row.part == part]


def draw(rows: Sequence[Row], path: Path) -> None:
    """How many times better each row against MONAI's parts is, on a logarithmic axis, with the range of its pairs."""
    figure, axes = plt.subplots(figsize=(13, 0.27 * len(rows) + 1.0), layout="constrained")
    ratios = [row.ratio for row in rows]
    spread = [[row.ratio - row.low for row in rows], [row.high - row.ratio for row in rows]]
    axes.barh([row.name for row in rows], ratios, xerr=spread, color="#3b7a9e", ecolor="#222222", capsize=2)
    for place, row in enumerate(rows):
        axes.annotate(
            f"{row.ratio:.3g}", (max(row.ratio, row.high), place), (6, 0), textcoords="offset points", va="center"
        )
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set(
        xscale="log", xlabel="times better than MONAI's parts, and the range of the pairs", ylim=(len(rows) - 0.4, -0.6)
    )
    axes.margins(x=0.08)
    figure.savefig(path, dpi=120)
    plt.close(figure)
