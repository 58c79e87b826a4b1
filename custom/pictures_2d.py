"""Figures of 2D images as they are hung: the patient's right on the left of the picture. Curves of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from .auc import roc_auc, roc_curve
from .pictures import MASKED_COLOUR, save_figure

COLUMNS, DPI = 5, 100
WHITE = {"color": "white", "fontsize": 11}


def draw_masked_image(
    image: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    path: str | Path,
    title: str = "",
    window: Sequence[float] | None = None,
) -> None:
    """Input, masked input and reconstruction (H, W) in one window, by default the image's percentiles 0.5 and 99.5.

    `masked` is true where the network saw nothing; it is drawn in a flat colour.
    """
    low, high = (float(value) for value in window or np.percentile(image, (0.5, 99.5)))
    figure = Figure(figsize=(12, 4.5), facecolor="black", layout="constrained")
    figure.suptitle(title, **WHITE)
    panels = {"input": image, "masked": image, "reconstructed": reconstructed}
    for axis, (name, levels) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        show(axis, levels, (low, high), name)
        if name == "masked":
            axis.imshow(
                np.ma.masked_equal(masked, 0),
                cmap=ListedColormap([MASKED_COLOUR]),
                vmin=0,
                vmax=1,
                interpolation="nearest",
            )
    save_figure(figure, path, DPI)


def draw_relevance(
    image: np.ndarray,
    relevance: np.ndarray,
    probabilities: Mapping[str, float],
    finding: str,
    path: str | Path,
    title: str = "",
) -> None:
    """The image (H, W), over it the relevance (H, W) from 0 to 1 of one finding, and all probabilities."""
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.5)))
    figure = Figure(figsize=(14, 4.8), facecolor="black", layout="constrained")
    figure.suptitle(title, **WHITE)
    plain, tinted, bars = figure.subplots(1, 3)
    show(plain, image, (low, high), "image")
    show(tinted, image, (low, high), f"relevance for {finding}")
    tinted.imshow(relevance, cmap="inferno", vmin=0, vmax=1, alpha=0.6 * relevance.clip(0, 1))
    names = list(probabilities)[::-1]
    colours = ["#f58231" if name == finding else "#4a90ff" for name in names]
    drawn = bars.barh(names, [probabilities[name] for name in names], color=colours)
    bars.bar_label(drawn, fmt="%.2f", color="white", padding=3, fontsize=9)
    bars.set(xlim=(0, 1.1), facecolor="black")
    bars.set_title("probability", **WHITE)
    bars.tick_params(colors="white")
    bars.spines[:].set_visible(False)
    save_figure(figure, path, DPI)


def draw_roc(truth: np.ndarray, scores: np.ndarray, class_names: Sequence[str], path: str | Path) -> None:
    """One ROC curve a finding, of truth and scores (N, K); findings without positives or negatives say so."""
    rows = -(-len(class_names) // COLUMNS)
    figure = Figure(figsize=(2.6 * COLUMNS, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, COLUMNS, squeeze=False, sharex=True, sharey=True).flat
    for k, axis in enumerate(axes):
        if k >= len(class_names):
            axis.set_visible(False)
            continue
        area, positives = roc_auc(truth[:, k], scores[:, k])[0], int(truth[:, k].sum())
        axis.plot([0, 1], [0, 1], color="0.75", linewidth=1)
        if not np.isnan(area):
            axis.plot(*roc_curve(truth[:, k], scores[:, k]), color="#1f5fbf", linewidth=1.8)
        known = "undefined" if np.isnan(area) else f"AUC {area:.3f}"
        axis.set_title(f"{class_names[k]}\n{known}, {positives} of {len(truth)}", fontsize=9)
        axis.set(aspect="equal", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.supxlabel("false positive rate", fontsize=10)
    figure.supylabel("true positive rate", fontsize=10)
    save_figure(figure, path, DPI)


def show(axis: Axes, levels: np.ndarray, window: tuple[float, float], title: str) -> None:
    """A grey image with its name."""
    axis.imshow(levels, cmap="gray", vmin=window[0], vmax=max(window[1], window[0] + 1e-6))
    axis.set_title(title, **WHITE)
    axis.set_axis_off()
