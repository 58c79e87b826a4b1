"""Scores and images onto another voxel grid: exact labels, in little memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import InputError

MIXED = 255  # marks a cell whose corners disagree; no class may have this index
SLAB_VOXELS = 2**19  # native voxels handled at once: what bounds the extra memory
CHUNK_VOXELS = 2**16  # voxels interpolated in all channels at once
TOLERANCE = 1e-4  # in voxels of the source grid: far below what an affine stored as float32 can promise


class Slab(NamedTuple):
    """Native rows and where they lie in the source grid.

    rows: range of the first native axis. corner: (n, W, D) int64, flat index of the cell's lowest corner.
    fractions: three tensors broadcastable to (n, W, D), the position inside the cell, 0..1.
    inside: bool, broadcastable to (n, W, D), False more than half a voxel outside the source grid.
    """

    rows: slice
    corner: Tensor
    fractions: tuple[Tensor, ...]
    inside: Tensor


def file_geometry(image: Any, name: str = "image") -> tuple[np.ndarray, list[int]]:
    """Affine (4, 4) float64 and shape of the file that `image` was loaded from, one image or a batch of one.

    Raises:
        InputError: the MetaTensor `name` does not carry them.
    """
    meta = getattr(image, "meta", {})
    if not {"original_affine", "spatial_shape"} <= meta.keys():
        raise InputError(
            f"'{name}' does not carry original_affine and spatial_shape of its file; load it with LoadImaged and"
            " keep its metadata until the end"
        )
    affine = np.array(meta["original_affine"], dtype=np.float64).reshape(-1, 4, 4)[0]
    return affine, [int(size) for size in np.asarray(meta["spatial_shape"]).reshape(-1)[:3]]


def native_slabs(
    grid: Sequence[int], to_grid: np.ndarray, shape: Sequence[int], device: torch.device
) -> Iterator[Slab]:
    """Walk through the native `shape` in slabs; `to_grid` (4, 4) maps a native voxel index to an index of `grid`.

    A source axis that depends on one native axis only has coordinates (n, 1, 1), (1, W, 1) or (1, 1, D), so all 48
    axis-aligned maps cost a few vectors; an oblique one broadcasts to the whole slab through the same lines.
    """
    steps = (grid[1] * grid[2], grid[2], 1)
    height = max(1, SLAB_VOXELS // (shape[1] * shape[2]))
    for start in range(0, shape[0], height):
        rows = slice(start, min(start + height, shape[0]))
        corner = torch.zeros((rows.stop - start, *shape[1:]), dtype=torch.int64, device=device)
        fractions, inside = [], torch.ones(1, 1, 1, dtype=torch.bool, device=device)
        for size, step, weights in zip(grid, steps, to_grid[:3], strict=True):
            position = _positions(weights, rows, shape, device)
            inside = inside & (position >= -0.5 - TOLERANCE) & (position <= size - 0.5 + TOLERANCE)
            position = position.clamp_(0, size - 1)
            base = position.floor().clamp_(max=max(size - 2, 0))
            corner += base.to(torch.int64) * step
            fractions.append((position - base).to(torch.float32))
        yield Slab(rows, corner, tuple(fractions), inside)


def _positions(weights: np.ndarray, rows: slice, shape: Sequence[int], device: torch.device) -> Tensor:
    """Coordinates along one source axis in float64, broadcast over the native axes that matter."""
    total = torch.full((1, 1, 1), float(weights[3]), dtype=torch.float64, device=device)
    for axis, (weight, size) in enumerate(zip(weights[:3], shape, strict=True)):
        if abs(weight) * max(size - 1, 1) < TOLERANCE:
            continue
        index = torch.arange(size, dtype=torch.float64, device=device)[rows if axis == 0 else slice(None)]
        total = total + (index * float(weight)).reshape([-1 if axis == other else 1 for other in range(3)])
    return total


def labels_to_native(logits: Tensor, to_logits: np.ndarray, shape: Sequence[int]) -> Tensor:
    """Interpolate every class score trilinearly at every native voxel and take the largest, computed sparsely.

    Where one class wins at all 8 corners of a cell it wins everywhere inside (an interpolated score is a convex
    combination of the corners), so only voxels in cells with disagreeing corners are interpolated. The labels are those
    of the dense computation but for rounding ties. Beyond half a voxel outside the grid the label is 0; within it, the
    label of the border.

    Args:
        logits: (C, h, w, d), any floating dtype, at most 255 classes; or probabilities.
        to_logits: (4, 4), native voxel index -> voxel index of `logits`.
        shape: (H, W, D) of the native grid.

    Returns:
        (H, W, D) uint8 on the device of `logits`.

    Raises:
        InputError: more than 255 classes, or not four axes.
    """
    if logits.ndim != 4 or logits.shape[0] > MIXED:
        raise InputError(
            f"the logits have shape {tuple(logits.shape)}, but labels are made from (classes, h, w, d) with at most"
            f" {MIXED} classes; change the number of classes"
        )
    cells = _uniform_cells(_winners(logits)).reshape(-1)
    flat = logits.reshape(logits.shape[0], -1)
    native = torch.empty(tuple(shape), dtype=torch.uint8, device=logits.device)
    for slab in native_slabs(logits.shape[1:], np.asarray(to_logits), shape, logits.device):
        labels = native[slab.rows]
        labels.copy_(cells[slab.corner])
        labels.masked_fill_(~slab.inside, 0)
        for index in (labels == MIXED).nonzero().split(CHUNK_VOXELS):
            where = index.unbind(1)
            fractions = [fraction.expand(labels.shape)[where] for fraction in slab.fractions]
            scores = _interpolate(flat, slab.corner[where], fractions, logits.shape[1:])
            labels[where] = scores.max(dim=0).indices.to(torch.uint8)
    return native


def image_to_native(image: Tensor, to_image: np.ndarray, shape: Sequence[int], fill: float = 0.0) -> Tensor:
    """Trilinear values of `image` (C, h, w, d) on the native grid, slab by slab; `fill` beyond half a voxel outside.

    Args:
        image: any floating or integer dtype.
        to_image: (4, 4), native voxel index -> voxel index of `image`.
        shape: (H, W, D) of the native grid.

    Returns:
        (C, H, W, D) float32 on the device of `image`.
    """
    flat = image.reshape(image.shape[0], -1)
    native = torch.empty((image.shape[0], *shape), dtype=torch.float32, device=image.device)
    for slab in native_slabs(image.shape[1:], np.asarray(to_image), shape, image.device):
        fractions = [fraction.expand(slab.corner.shape).reshape(-1) for fraction in slab.fractions]
        values = _interpolate(flat, slab.corner.reshape(-1), fractions, image.shape[1:])
        native[:, slab.rows] = values.reshape(-1, *slab.corner.shape).masked_fill_(~slab.inside, fill)
    return native


def _winners(logits: Tensor) -> Tensor:
    """Index of the largest channel, (h, w, d) uint8, in slabs because torch makes int64 indices."""
    winners = torch.empty(logits.shape[1:], dtype=torch.uint8, device=logits.device)
    height = max(1, SLAB_VOXELS // max(1, winners[0].numel()))
    for start in range(0, len(winners), height):
        rows = slice(start, start + height)
        winners[rows] = logits[:, rows].max(dim=0).indices
    return winners


def _uniform_cells(labels: Tensor) -> Tensor:
    """(h, w, d) uint8: the label shared by the 8 corners of the cell that begins at each voxel, or MIXED."""
    low = high = labels
    for axis, size in enumerate(labels.shape):
        after = torch.arange(1, size + 1, device=labels.device).clamp_(max=size - 1)
        low = torch.minimum(low, low.index_select(axis, after))
        high = torch.maximum(high, high.index_select(axis, after))
    return low.masked_fill_(low != high, MIXED)


def _interpolate(flat: Tensor, corner: Tensor, fractions: Sequence[Tensor], grid: Sequence[int]) -> Tensor:
    """Trilinear values (C, M) in float32 of the flattened grid `flat` (C, h*w*d) at M positions."""
    steps = [step if size > 1 else 0 for step, size in zip((grid[1] * grid[2], grid[2], 1), grid, strict=True)]
    total = torch.zeros((flat.shape[0], len(corner)), dtype=torch.float32, device=flat.device)
    for offsets in product((0, 1), repeat=3):
        weight = torch.ones_like(fractions[0])
        for offset, fraction in zip(offsets, fractions, strict=True):
            weight = weight * (fraction if offset else 1 - fraction)
        index = corner + sum(offset * step for offset, step in zip(offsets, steps, strict=True))
        total.addcmul_(flat.index_select(1, index).to(torch.float32), weight)
    return total
