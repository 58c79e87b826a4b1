"""The figure of the benchmark: how many times better than MONAI's parts, with the range of the pairs and the target."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .goals import is_met
from .measure import Row

COLOURS = {True: "#1f7a4d", False: "#b3261e", None: "#3b6a8e"}
WORDS = {True: "target reached", False: "target not reached", None: "no target"}


def draw(rows: Sequence[Row], path: Path) -> None:
    """Rows of time above, of memory below, each on a logarithmic axis of its own."""
    groups = {
        "time and rate": [row for row in rows if row.unit != "MiB"],
        "memory": [r for r in rows if r.unit == "MiB"],
    }
    groups = {name: group for name, group in groups.items() if group}
    heights = [len(group) + 1 for group in groups.values()]
    figure = Figure(figsize=(12, 0.3 * sum(heights) + 1.2), layout="constrained")
    panels = figure.subplots(len(groups) or 1, height_ratios=heights or None, squeeze=False)[:, 0]
    for axes, (name, group) in zip(panels, groups.items(), strict=False):
        _panel(axes, group)
        axes.set_title(
            f"{name}: times better than MONAI's parts, median and range of the pairs", loc="left", fontsize=10
        )
    figure.savefig(path, dpi=120)


def _panel(axes: Axes, rows: Sequence[Row]) -> None:
    for place, row in enumerate(rows):
        colour, goal = COLOURS[is_met(row)], re.search(r"times >= ([\d.]+)", row.goal)
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5)
        axes.plot(row.ratio, place, "o", color=colour, markersize=6)
        if goal:
            axes.plot(float(goal[1]), place, "|", color="#222222", markersize=13, markeredgewidth=1.5)
        right = max(row.high, float(goal[1]) if goal else 0)
        where = {"textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(f"{row.ratio:.3g}", (right, place), (8, 0), **where)
    axes.axvline(1, color="#222222", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=9)
    axes.set(xscale="log", ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="x", which="both", color="#e3e3e3", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(x=0.08)
    for met in dict.fromkeys(is_met(row) for row in rows):
        axes.plot([], [], "o", color=COLOURS[met], label=WORDS[met])
    axes.plot([], [], "|", color="#222222", markersize=11, label="target")
    axes.legend(loc="lower right", fontsize=8, frameon=False)
