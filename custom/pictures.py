"""Figures as a radiologist reads them: patient's right on the left of the picture, anterior and superior up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from .files import replacing

ORGAN_COLOURS = (
    *("#e6194b", "#3cb44b", "#4a90ff", "#ffe119", "#f58231", "#c77dff", "#42d4f4"),
    *("#f032e6", "#bfef45", "#fa9fb5", "#469990", "#dcb37b", "#9a6324"),
)
MASKED_COLOUR = "#5b6675"  # a bluish grey: neither air nor any tissue
VIEWS = ("axial", "coronal", "sagittal")
EDGES = (("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I"))  # left, right, top, bottom of each view
LEGEND_COLUMNS = 7
WIDTH, GAP, LEFT, HEAD = (
    12.0,
    0.08,
    0.35,
    0.4,
)  # inches: picture, between panels, room for row names, room for the title

Window = tuple[float, float]
Slices = Callable[[int, int], np.ndarray]  # index, axis -> that slice of a volume (H, W, D), with two axes left


def to_ras(volume: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """Flip and permute `volume` (H, W, D) so that its axes run to the right, anterior and superior; spacing in mm."""
    orientation = nib.orientations.io_orientation(affine)
    order = np.argsort(orientation[:, 0])
    spacing = nib.affines.voxel_sizes(affine)[order]
    return nib.orientations.apply_orientation(volume, orientation), tuple(float(size) for size in spacing)


def draw_overlay(
    image: np.ndarray | Slices,
    labels: np.ndarray,
    spacing: Sequence[float],
    names: Mapping[int, str],
    path: str | Path,
    title: str = "",
    window: Window | None = None,
    reference: np.ndarray | None = None,
) -> None:
    """Axial, coronal and sagittal slice through the most labelled voxels, organs in colour, a legend of those present.

    Args:
        image: (H, W, D) in RAS orientation (see `to_ras`), or what gives its slices.
        labels: (H, W, D) integers on the same grid, 0 is background.
        spacing: voxel size in mm along the three axes.
        names: label -> name.
        path: PNG to write; its folder is made when missing.
        window: intensities shown black and white; None takes the 1st and 99th percentile of what is shown.
        reference: (H, W, D), what the labels should be: a second row of the same slices, through its organs.
    """
    shown = {"": labels} if reference is None else {"prediction": labels, "reference": reference}
    present = sorted({int(label) for volume in shown.values() for part in volume for label in np.unique(part)} - {0})
    centre = _busiest(labels if reference is None else reference)
    planes = [_plane(image, view, centre) for view in range(3)]
    window = window or _window(np.concatenate([plane.ravel() for plane in planes]))
    foot = 0.25 * -(-len(present) // LEGEND_COLUMNS)
    figure, axes = _canvas(labels.shape, spacing, rows=len(shown), title=title, foot=foot)
    for row, (name, volume) in zip(axes, shown.items(), strict=True):
        for view, axis in enumerate(row):
            _show(axis, planes[view], view, window)
            axis.imshow(_tint(_plane(volume, view, centre)), aspect="auto", interpolation="nearest")
        row[0].set_ylabel(name, color="white", fontsize=12)
    if present:
        handles = [Patch(color=_colour(label), label=names.get(label, f"label {label}")) for label in present]
        style = {"frameon": False, "labelcolor": "white", "fontsize": 10, "handlelength": 1.0, "columnspacing": 1.5}
        figure.legend(handles=handles, loc="lower center", ncols=min(LEGEND_COLUMNS, len(handles)), **style)
    save_figure(figure, path)


def draw_reconstruction(
    image: np.ndarray,
    masked: np.ndarray,
    reconstructed: np.ndarray,
    spacing: Sequence[float],
    path: str | Path,
    title: str = "",
    window: Window | None = None,
) -> None:
    """Three rows (input, masked, reconstructed) of the middle axial, coronal and sagittal slice, one window for all.

    Args:
        image, reconstructed: (H, W, D) in RAS orientation (see `to_ras`).
        masked: (H, W, D), true where the network saw nothing; drawn in a flat colour that no tissue has.
        spacing: voxel size in mm along the three axes.
        path: PNG to write; its folder is made when missing.
        window: intensities shown black and white; None takes the 1st and 99th percentile of what is shown of `image`.
    """
    centre = tuple(size // 2 for size in image.shape)
    window = window or _window(np.concatenate([_plane(image, view, centre).ravel() for view in range(3)]))
    figure, axes = _canvas(image.shape, spacing, rows=3, title=title, foot=0.0)
    for row, (name, volume) in enumerate((("input", image), ("masked", image), ("reconstructed", reconstructed))):
        for view, axis in enumerate(axes[row]):
            _show(axis, _plane(volume, view, centre), view, window)
            if name == "masked":
                hidden = _plane(np.asarray(masked) > 0, view, centre)
                axis.imshow(_flat(hidden, MASKED_COLOUR, 1.0), aspect="auto", interpolation="nearest")
        axes[row][0].set_ylabel(name, color="white", fontsize=12)
    save_figure(figure, path)


def _busiest(labels: np.ndarray) -> tuple[int, ...]:
    """Per axis the slice with the most labelled voxels; the middle where nothing is labelled."""
    counts = [np.zeros(size, dtype=np.int64) for size in labels.shape]
    for index, part in enumerate(labels):  # slice by slice, because a mask of a long scan is large
        labelled = part > 0
        counts[0][index] = labelled.sum()
        counts[1] += labelled.sum(axis=1)
        counts[2] += labelled.sum(axis=0)
    return tuple(int(count.argmax()) if count.any() else len(count) // 2 for count in counts)


def _plane(volume: np.ndarray | Slices, view: int, centre: Sequence[int]) -> np.ndarray:
    """One slice of an RAS volume as rows and columns of the picture, row 0 on top."""
    fixed = 2 - view  # axial fixes S, coronal fixes A, sagittal fixes R
    plane = volume(centre[fixed], fixed) if callable(volume) else np.take(volume, centre[fixed], axis=fixed)
    # both remaining axes run against the picture: right is on its left, anterior and superior are on top, and a
    # sagittal slice looks at the patient's left side, so that anterior is on its left
    return plane.T[::-1, ::-1]


def _window(values: np.ndarray) -> Window:
    low, high = (float(value) for value in np.nanpercentile(values, (1, 99)))
    return low, max(high, low + 1e-6)


def _canvas(
    shape: Sequence[int], spacing: Sequence[float], rows: int, title: str, foot: float
) -> tuple[Figure, list[list[Axes]]]:
    """Black figure with one row of three panels each `rows`; a millimetre is as long in every panel and direction."""
    right, anterior, superior = (size * step for size, step in zip(shape, spacing, strict=True))
    sizes = ((right, anterior), (right, superior), (anterior, superior))
    scale = (WIDTH - LEFT - 3 * GAP) / (2 * right + anterior)
    row_height = max(anterior, superior) * scale
    height = HEAD + rows * (row_height + GAP) + foot
    figure = Figure(figsize=(WIDTH, height), facecolor="black")
    figure.suptitle(title, color="white", fontsize=13, y=1 - 0.5 * HEAD / height, va="center")
    axes: list[list[Axes]] = [[] for _ in range(rows)]
    for row in range(rows):
        x, bottom = LEFT, height - HEAD - (row + 1) * (row_height + GAP) + GAP
        for wide, high in sizes:
            y = bottom + (row_height - high * scale) / 2
            rectangle = (x / WIDTH, y / height, wide * scale / WIDTH, high * scale / height)
            axes[row].append(figure.add_axes(rectangle, facecolor="black"))
            x += wide * scale + GAP
    return figure, axes


def _show(axis: Axes, plane: np.ndarray, view: int, window: Window) -> None:
    """A grey slice with its name and the four directions of the patient at the edges."""
    axis.imshow(plane, cmap="gray", vmin=window[0], vmax=window[1], aspect="auto", interpolation="bilinear")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    halo = [withStroke(linewidth=2.5, foreground="black")]
    style = {"color": "#ffd54a", "fontsize": 10, "transform": axis.transAxes, "path_effects": halo}
    for letter, x, y in zip(EDGES[view], (0.015, 0.985, 0.5, 0.5), (0.5, 0.5, 0.985, 0.015), strict=True):
        sides = {
            "ha": {0.5: "center", 0.015: "left"}.get(x, "right"),
            "va": {0.5: "center", 0.015: "bottom"}.get(y, "top"),
        }
        axis.text(x, y, letter, **sides, **style)
    axis.text(0.015, 0.985, VIEWS[view], ha="left", va="top", **style)


def _tint(labels: np.ndarray) -> np.ndarray:
    """RGBA (rows, columns, 4): organs half transparent, their outlines nearly opaque, background clear."""
    rgba = np.zeros((*labels.shape, 4))
    for label in np.unique(labels):
        if label:
            rgba += _flat(labels == label, _colour(int(label)), 0.38)
    outline = np.zeros(labels.shape, dtype=bool)
    for edge, before, after in (
        (labels[:-1] != labels[1:], outline[:-1], outline[1:]),
        (labels[:, :-1] != labels[:, 1:], outline[:, :-1], outline[:, 1:]),
    ):
        before |= edge
        after |= edge
    rgba[..., 3][outline & (labels > 0)] = 0.9
    return rgba


def _flat(mask: np.ndarray, colour: str, alpha: float) -> np.ndarray:
    return mask[..., None] * np.array((*to_rgb(colour), alpha))


def _colour(label: int) -> str:
    return ORGAN_COLOURS[(label - 1) % len(ORGAN_COLOURS)]


def save_figure(figure: Figure, path: str | Path, dpi: int = 110) -> None:
    """Write a PNG that is complete or absent."""
    with replacing(path) as unfinished:
        figure.savefig(unfinished, dpi=dpi, format="png")
