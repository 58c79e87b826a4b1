"""Segment a scan row by row: windows, blending and the way back to the file's grid, in the memory of one window."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer
from torch import Tensor
from torch.nn import functional

from .errors import InputError
from .resampling import file_geometry, labels_to_native

ROWS = 16  # finished at once
DRIFT = 1e-3  # voxels by which an axis of the file may leave its row of the image: rounding in a header


class Rows(NamedTuple):
    """Scores (C, h, w, d) of rows first, first + 1, ... of one axis, blended from all windows that cover them."""

    first: int
    scores: Tensor


class NativeSlidingWindowInferer(Inferer):
    """SlidingWindowInferer and NativeLabelsd in one: image (1, C, h, w, d) -> labels (1, 1, H, W, D) uint8 of its file.

    The windows are MONAI's, taken along the longest axis. Rows that no later window covers become labels at once and
    their scores are dropped, so that memory holds the scores of one window's rows and not of the whole scan. Only where
    the file's axes do not run along those of the image, as after a rotation, all scores are kept until the end.

    Args:
        roi_size: size of the windows in voxels, one number an axis.
        sw_batch_size: windows in one call of the network; 1 is fastest on CPUs.
        overlap: share of a window that the next one covers, in [0, 1).
        mode: "gaussian" or "constant" blending, as MONAI's.

    Raises:
        InputError: an overlap outside [0, 1), more than one image, or an image without the metadata of LoadImaged (a
            MetaTensor: not inside MONAI's SupervisedEvaluator with compile=True).
    """

    def __init__(
        self, roi_size: Sequence[int], sw_batch_size: int = 1, overlap: float = 0.5, mode: str = "gaussian"
    ) -> None:
        super().__init__()
        if not 0 <= overlap < 1:
            raise InputError(f"overlap {overlap} must be a share of a window, at least 0 and less than 1")
        self.roi_size = tuple(int(size) for size in roi_size)
        self.sw_batch_size, self.overlap, self.mode = sw_batch_size, overlap, mode

    @torch.no_grad()
    def __call__(self, inputs: MetaTensor, network: Callable, *args: Any, **kwargs: Any) -> Tensor:
        if len(inputs) != 1:
            raise InputError(f"{len(inputs)} images come at once where one is due; set the loader's batch_size to 1")
        affine, shape = file_geometry(inputs)
        to_grid = np.linalg.solve(np.asarray(inputs.affine, dtype=np.float64).reshape(-1, 4, 4)[0], affine)
        image = inputs.as_tensor()
        axis = int(np.argmax(image.shape[2:]))

        def apply(windows: Tensor) -> Tensor:
            return network(windows, *args, **kwargs)

        rows = blended_rows(image, apply, self.roi_size, self.sw_batch_size, self.overlap, self.mode, axis)
        return labels_of_rows(rows, axis, image.shape[2:], to_grid, shape)[None, None]


def blended_rows(
    image: Tensor,
    network: Callable,
    roi_size: Sequence[int],
    sw_batch_size: int,
    overlap: float,
    mode: str,
    axis: int = 2,
) -> Iterator[Rows]:
    """What SlidingWindowInferer returns for `image` (1, C, h, w, d), in pieces along `axis`, from first to last."""
    size = image.shape[2:]
    image, before = padded(image, roi_size)
    windows = dense_patch_slices(image.shape[2:], roi_size, [max(1, int(roi * (1 - overlap))) for roi in roi_size])
    windows = sorted(windows, key=lambda window: window[axis].start)
    blend = Blend(image.shape[2:], compute_importance_map(tuple(roi_size), mode, device=image.device), axis)
    following = iter([*sorted({window[axis].start for window in windows})[1:], image.shape[2 + axis]])
    for _, group in groupby(windows, key=lambda window: window[axis].start):
        for batch in batches(list(group), sw_batch_size):
            scores = network(torch.cat([image[(..., *window)] for window in batch]))
            for window, score in zip(batch, scores, strict=True):
                blend.add(window, score)
        for first, done in blend.finish(next(following)):
            yield from without_padding(first, done, axis, before, size)


def padded(image: Tensor, roi_size: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Zeros around an image (1, C, h, w, d) smaller than a window, half before and half behind, and how many before."""
    missing = [max(roi - length, 0) for roi, length in zip(roi_size, image.shape[2:], strict=True)]
    before = [count // 2 for count in missing]
    pad = [part for first, count in zip(before[::-1], missing[::-1], strict=True) for part in (first, count - first)]
    return functional.pad(image, pad) if any(missing) else image, before


def without_padding(
    first: int, scores: Tensor, axis: int, before: Sequence[int], size: Sequence[int]
) -> Iterator[Rows]:
    """The rows of `scores` that lie in the image, if there are any, and of them what lies in it."""
    low, high = max(before[axis] - first, 0), min(before[axis] + size[axis] - first, scores.shape[1 + axis])
    if low >= high:
        return
    inside = [slice(start, start + length) for start, length in zip(before, size, strict=True)]
    inside[axis] = slice(low, high)
    yield Rows(first + low - before[axis], scores[(slice(None), *inside)])


def batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive pieces of at most `size` items."""
    return (items[first : first + size] for first in range(0, len(items), size))


class Blend:
    """Weighted sums of scores for as many rows along `axis` as a window has, over the whole of the other axes.

    size: of the image (h, w, d); importance: the weight of each voxel of a window.
    """

    def __init__(self, size: Sequence[int], importance: Tensor, axis: int) -> None:
        self.axis, self.importance, self.first = 1 + axis, importance, 0
        shape = [importance.shape[axis] if axis == other else length for other, length in enumerate(size)]
        self.weight = importance.new_zeros((1, *shape))
        self.total: Tensor | None = None

    def add(self, window: tuple[slice, ...], scores: Tensor) -> None:
        """Scores (C, r, s, t) of a window that begins at the first row held."""
        if self.total is None:
            self.total = self.weight.repeat(len(scores), 1, 1, 1)
        where = [slice(None), *window]
        where[self.axis] = slice(None)
        self.total[tuple(where)].addcmul_(scores.float(), self.importance)
        self.weight[tuple(where)].add_(self.importance)

    def finish(self, end: int) -> Iterator[tuple[int, Tensor]]:
        """Weighted means of the rows before `end`, which no later window covers, a few at a time; they are dropped."""
        count = end - self.first
        for row in range(0, count, ROWS):
            total, weight = (
                volume.narrow(self.axis, row, min(ROWS, count - row)) for volume in (self.total, self.weight)
            )
            yield self.first + row, total / weight
        for volume in (self.total, self.weight):
            kept = volume.shape[self.axis] - count
            for row in range(0, kept, count):  # pieces that do not overlap their places
                piece = volume.narrow(self.axis, row + count, min(count, kept - row))
                volume.narrow(self.axis, row, piece.shape[self.axis]).copy_(piece)
            volume.narrow(self.axis, kept, count).zero_()
        self.first = end


def labels_of_rows(
    rows: Iterable[Rows], axis: int, grid: Sequence[int], to_grid: np.ndarray, shape: Sequence[int]
) -> Tensor:
    """Labels (H, W, D) uint8 of the file, as `labels_to_native` makes them from all rows at once.

    to_grid (4, 4) maps a voxel of the file to one of `grid`.
    """
    drift = np.abs(to_grid[axis, :3]) * np.maximum(np.subtract(shape, 1), 1)
    if (drift >= DRIFT).sum() != 1:
        return labels_to_native(all_rows(rows, axis, grid), to_grid, shape)
    along = int(drift.argmax())
    position = to_grid[axis, along] * np.arange(shape[along]) + to_grid[axis, 3]
    native = torch.zeros(tuple(shape), dtype=torch.uint8)
    for first, scores in with_row_before(rows, axis):
        native = native.to(scores.device)
        last = first + scores.shape[1 + axis] - 1
        found = ((position >= first) | (first == 0)) & ((position < last) | (last == grid[axis] - 1))
        if found.any():
            start, count, part, shifted = int(found.argmax()), int(found.sum()), list(shape), to_grid.copy()
            part[along] = count
            shifted[:3, 3] += to_grid[:3, along] * start
            shifted[axis, 3] -= first
            native.narrow(along, start, count).copy_(labels_to_native(scores, shifted, part))
    return native


def all_rows(rows: Iterable[Rows], axis: int, grid: Sequence[int]) -> Tensor:
    """The scores (C, h, w, d) of the whole image."""
    whole = None
    for first, scores in rows:
        whole = scores.new_empty((len(scores), *grid)) if whole is None else whole
        whole.narrow(1 + axis, first, scores.shape[1 + axis]).copy_(scores)
    return whole


def with_row_before(rows: Iterable[Rows], axis: int) -> Iterator[Rows]:
    """The same pieces, each preceded by the last row of the one before: a label needs the cell around it."""
    last = None
    for first, scores in rows:
        if last is not None:
            first, scores = first - 1, torch.cat([last, scores], dim=1 + axis)
        last = scores.narrow(1 + axis, scores.shape[1 + axis] - 1, 1).clone()
        yield Rows(first, scores.contiguous())
