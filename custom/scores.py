"""Scores of one segmented case per class, and bootstrap intervals over cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from scipy.ndimage import find_objects
from torch import Tensor

from .errors import InputError


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, samples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean and percentile bootstrap interval over cases -> (mean, low, high); NaN are ignored.

    Without a value all three are NaN; with one value the interval is NaN, because one case says nothing about spread.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[~np.isnan(finite)]
    if len(finite) < 2:
        return (float(finite[0]) if len(finite) else np.nan), np.nan, np.nan
    drawn = np.random.default_rng(seed).integers(0, len(finite), size=(samples, len(finite)))
    low, high = np.quantile(finite[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(finite.mean()), float(low), float(high)


class Part(NamedTuple):
    """One class of a segmentation: the voxels of `array` (H, W, D) equal to `value`, and their box; None if none is."""

    array: np.ndarray
    value: int
    box: tuple[slice, ...] | None


class Empty(NamedTuple):
    """Values of a class that one side lacks: found in neither, only by the prediction, only in the reference."""

    neither: float
    false_alarm: float
    missed: float


# As published: a class absent from the reference is not counted, whatever was predicted; no distance to nothing exists.
PUBLISHED_DICE, PUBLISHED_HD95 = Empty(np.nan, np.nan, 0.0), Empty(np.nan, np.nan, np.nan)
# As BraTS scores: agreeing on an empty region is perfect; else the Dice is 0, the distance the diagonal of its grid.
BRATS_DICE, BRATS_HD95 = Empty(1.0, 0.0, 0.0), Empty(0.0, 373.13, 373.13)


def dice_per_class(pred: Tensor, label: Tensor, num_classes: int, empty: Empty = PUBLISHED_DICE) -> np.ndarray:
    """Dice of the classes 1 .. num_classes - 1 of one case, shape (num_classes - 1,).

    Args:
        pred, label: label maps of the same shape (H, W, D) or (1, H, W, D), any dtype; or one binary channel a class
            but the background, (num_classes - 1, H, W, D), which may overlap.
        num_classes: background included.
        empty: what a class absent from one of them or both scores; as published, absent from the reference is NaN
            and present but missed is 0.
    """
    return _per_class(pred, label, num_classes, lambda a, b: float(compute_dice(a, b)), empty)


def hd95_per_class(
    pred: Tensor,
    label: Tensor,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    empty: Empty = PUBLISHED_HD95,
) -> np.ndarray:
    """95th percentile Hausdorff distance of the classes 1 .. num_classes - 1 of one case, shape (num_classes - 1,).

    Args:
        pred, label, num_classes: as for `dice_per_class`.
        spacing: voxel size in mm along the three axes -> mm; None -> voxels.
        empty: what a class absent from one of them or both scores. As published that is NaN; where it is present but
            missed, it has to be reported as undefined beside the mean (missing organs must not make a method look
            better).
    """

    def distance(a: Tensor, b: Tensor) -> float:
        return float(compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing))

    return _per_class(pred, label, num_classes, distance, empty)


def _per_class(
    pred: Tensor, label: Tensor, num_classes: int, measure: Callable[[Tensor, Tensor], float], empty: Empty
) -> np.ndarray:
    """Measure each class on binary (1, 1, h, w, d) crops of the joint bounding box with a margin of one voxel.

    Neither measure depends on anything outside that box, and it makes HD95 an order of magnitude faster.
    """
    if pred.shape[-3:] != label.shape[-3:]:
        raise InputError(
            f"prediction {tuple(pred.shape)} and reference {tuple(label.shape)} lie on different grids; "
            "compare them on the same one"
        )
    sides = zip(_classes(pred, num_classes - 1), _classes(label, num_classes - 1), strict=True)
    return np.array([_measured(found, true, measure, empty) for found, true in sides], dtype=float)


def _measured(found: Part, true: Part, measure: Callable[[Tensor, Tensor], float], empty: Empty) -> float:
    if true.box is None:
        return empty.neither if found.box is None else empty.false_alarm
    if found.box is None:
        return empty.missed
    ends = zip(found.box, true.box, strict=True)
    box = tuple(slice(max(0, min(a.start, b.start) - 1), max(a.stop, b.stop) + 1) for a, b in ends)
    return measure(*(torch.from_numpy(part.array[box] == part.value)[None, None] for part in (found, true)))


def _classes(labels: Tensor, count: int) -> list[Part]:
    """The classes of a label map, or of one channel each."""
    array = np.asarray(labels.detach().cpu())
    array = array if np.issubdtype(array.dtype, np.integer) else array.astype(np.int16)
    if array.ndim == 4 and len(array) == count > 1:
        return [Part(channel, 1, find_objects(channel, 1)[0]) for channel in array]
    array = array[0] if array.ndim == 4 else array
    return [Part(array, index + 1, box) for index, box in enumerate(find_objects(array, count))]
