"""Gauges and figures of chest X-ray phantoms: how well they are read from simple features and by a small network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes

from custom.data.nih import FINDINGS
from custom.data.phantoms.cxr import render
from custom.data.phantoms.cxr_cases import Patient, Visit

from .phantom_findings import LIMITS, READABLE, ceiling, control, readings, train_network

COLOURS = {"brightness": "#c9c9c9", "thumbnail": "#9fb7cf", "small network": "#1f5fa8", "ceiling": "#e3c07b"}


def findings(
    out: str,
    train: int = 1500,
    test: int = 500,
    epochs: int = 24,
    seed: int = 0,
    shape: Sequence[int] = (64, 64),
    threads: int = 1,
    figure: str = "docs/figures/phantom_cxr_solvable.png",
) -> None:
    """Make chest X-ray phantoms, read them in four ways, and write out/findings.json and the figure.

    Args:
        out: folder for the numbers.
        train: patients that the readers learn from.
        test: further patients they are tested on.
        epochs: of the small network.
        seed: population's seed.
        shape: height and width in pixels, multiples of 16.
        threads: of torch.
        figure: where to draw.
    """
    torch.set_num_threads(threads)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    first, second = (
        readings(seed, patients, tuple(shape)) for patients in (range(1, train + 1), range(train + 1, train + test + 1))
    )
    aucs = {kind: control(first, second, kind) for kind in LIMITS} | {"ceiling": ceiling(second)}
    record = {
        "images": [len(first.images), len(second.images)],
        "positives": second.labels.sum(0).tolist(),
        "auc": {kind: auc.tolist() for kind, auc in aucs.items()},
        "curve": train_network(first, second, epochs),
    }
    (folder / "findings.json").write_text(json.dumps(record))
    draw_findings(out, figure)


def draw_findings(out: str, figure: str = "docs/figures/phantom_cxr_solvable.png") -> None:
    """From out/findings.json: the learning curve of the small network, and the AUC of every finding and reader."""
    record = json.loads((Path(out) / "findings.json").read_text())
    curve, auc = record["curve"], record["auc"]
    canvas, (left, right) = plt.subplots(1, 2, figsize=(13, 4.2), width_ratios=(1, 2.6), layout="constrained")
    left.plot([row["epoch"] for row in curve], [np.nanmean(row["auc"]) for row in curve], marker="o", color="#1f5fa8")
    left.axhline(READABLE, color="0.6", linestyle="--", linewidth=1)
    left.set(xlabel="epoch", ylabel="macro AUC, unseen patients", xlim=(0, None), ylim=(0.5, 1))
    draw_bars(
        right, {kind: auc[kind] for kind in LIMITS} | {"small network": curve[-1]["auc"], "ceiling": auc["ceiling"]}
    )
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    canvas.savefig(figure, dpi=110)


def draw_bars(axis: Axes, aucs: dict[str, list[float]]) -> None:
    """AUC of every finding, one bar for each reader."""
    where = np.arange(len(FINDINGS))
    for offset, (name, values) in enumerate(aucs.items()):
        shown = f"{name} (mean {np.nanmean(values):.2f})"
        axis.bar(where + 0.2 * (offset - 1.5), np.array(values) - 0.5, 0.2, 0.5, label=shown, color=COLOURS[name])
    axis.set(ylabel="AUC", ylim=(0.5, 1))
    axis.axhline(0.5, color="0.3", linewidth=0.8)
    axis.set_xticks(where, [name.replace("_", "\n") for name in FINDINGS], fontsize=7, rotation=40, ha="right")
    axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def films(figure: str = "docs/figures/phantom_cxr_example.png", seed: int = 0, columns: int = 6) -> None:
    """Draw four chest X-ray phantoms without a finding, and for every finding the first that has no other."""
    shown = [first_with(seed, (), skip) for skip in range(4)] + [first_with(seed, (name,)) for name in FINDINGS]
    canvas, axes = plt.subplots(-(-len(shown) // columns), columns, figsize=(12, 6.6), layout="constrained")
    for axis, visit in zip(axes.ravel(), shown, strict=True):
        axis.imshow(render(visit), cmap="gray", vmin=0, vmax=255)
        title = ", ".join(visit.present).replace("_", " ") or "no finding"
        axis.set_title(f"{title} ({'AP' if visit.portable else 'PA'})", fontsize=9)
        axis.set_axis_off()
    canvas.savefig(figure, dpi=100)


def first_with(seed: int, present: tuple[str, ...], skip: int = 0) -> Visit:
    """The first images of a population's patients in which exactly these findings are present, after `skip` others."""
    index = 0
    while True:
        index += 1
        visit = Visit(Patient(seed, index), 0)
        if visit.present == present:
            if skip == 0:
                return visit
            skip -= 1
