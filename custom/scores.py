"""Scores of one segmented case per class, and bootstrap intervals over cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def dice_per_class(pred: Tensor, label: Tensor, num_classes: int) -> np.ndarray:
    """Dice of the classes 1 .. num_classes - 1 of one case, shape (num_classes - 1,).

    Args:
        pred, label: label maps of the same shape (H, W, D) or (1, H, W, D), any dtype.
        num_classes: background included.

    An organ absent from the reference is NaN, whatever was predicted, as in the publication; present but missed is 0.
    """
    return _per_class(pred, label, num_classes, lambda a, b: float(compute_dice(a, b)), missed=0.0)


def hd95_per_class(pred: Tensor, label: Tensor, num_classes: int, spacing: Sequence[float] | None = None) -> np.ndarray:
    """95th percentile Hausdorff distance of the classes 1 .. num_classes - 1 of one case, shape (num_classes - 1,).

    Args:
        pred, label: label maps of the same shape (H, W, D) or (1, H, W, D), any dtype.
        num_classes: background included.
        spacing: voxel size in mm along the three axes -> mm; None -> voxels.

    An organ absent from the reference is NaN and not counted; present but missed is NaN as well, since no distance
    exists, and has to be reported as undefined beside the mean (missing organs must not make a method look better).
    """

    def distance(a: Tensor, b: Tensor) -> float:
        return float(compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing))

    return _per_class(pred, label, num_classes, distance, missed=np.nan)


def _per_class(
    pred: Tensor, label: Tensor, num_classes: int, measure: Callable[[Tensor, Tensor], float], missed: float
) -> np.ndarray:
    """Measure each class on binary (1, 1, h, w, d) crops of the joint bounding box with a margin of one voxel.

    Neither measure depends on anything outside that box, and it makes HD95 an order of magnitude faster.
    """
    pred, label = _label_map(pred), _label_map(label)
    if pred.shape != label.shape:
        raise InputError(
            f"prediction {pred.shape} and reference {label.shape} lie on different grids; compare them on the same one"
        )
    boxes = zip(find_objects(pred, num_classes - 1), find_objects(label, num_classes - 1), strict=True)
    values = np.full(num_classes - 1, np.nan)
    for index, (found, true) in enumerate(boxes):
        if true is None:
            continue
        if found is None:
            values[index] = missed
            continue
        sides = zip(found, true, strict=True)
        box = tuple(slice(max(0, min(a.start, b.start) - 1), max(a.stop, b.stop) + 1) for a, b in sides)
        values[index] = measure(*(torch.from_numpy(x[box] == index + 1)[None, None] for x in (pred, label)))
    return values


def _label_map(labels: Tensor) -> np.ndarray:
    array = np.asarray(labels.detach().cpu())
    array = array if np.issubdtype(array.dtype, np.integer) else array.astype(np.int16)
    return array[0] if array.ndim == 4 else array
