"""A volume at another spacing, resampled while it is read, a slab of slices at a time: it is never held whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from monai.data.utils import AFFINE_TOL, affine_to_spacing, compute_shape_offset, zoom_affine
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

SLAB_VOXELS = 2**20  # voxels handled at once, before or after resampling: what bounds the extra memory
SHEAR_TOLERANCE = 1e-3  # voxels of the file by which an axis may drift along another one: rounding in a header
DECIMALS = 5  # of a position in voxels of the file; what lies beyond is rounding, too


class Grid(NamedTuple):
    """A voxel grid and where its voxels lie in a file.

    affine: (4, 4) voxel index -> mm. shape: (H, W, D). to_file: (4, 4) voxel index -> voxel index of the file.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    to_file: NDArray[np.float64]

    @property
    def axes(self) -> list[int]:
        """For each axis of the file, the one of the grid that runs along it."""
        return np.abs(self.to_file[:3, :3]).argmax(axis=1).tolist()

    @property
    def separable(self) -> bool:
        """Whether each axis runs along one of the file's, so that they can be resampled one after the other."""
        drift = np.abs(self.to_file[:3, :3]) * (np.asarray(self.shape) - 1)
        drift[range(3), self.axes] = 0
        return sorted(self.axes) == [0, 1, 2] and drift.max() < SHEAR_TOLERANCE

    def positions(self, file_axis: int) -> NDArray[np.float64]:
        """Coordinates of the grid's voxels along an axis of the file, in its voxels."""
        axis = self.axes[file_axis]
        steps = np.arange(self.shape[axis]) * self.to_file[file_axis, axis]
        return np.round(steps + self.to_file[file_axis, 3], DECIMALS)


def ras_grid(affine: NDArray[np.float64], shape: Sequence[int], pixdim: Sequence[float]) -> Grid:
    """The grid that MONAI's Orientation("RAS") and then Spacing(pixdim) make of a file's `affine` (4, 4) and `shape`.

    By the functions that MONAI uses, and like MONAI without a change where the spacing is right to 0.001 mm.
    """
    to_ras = ornt_transform(io_orientation(affine), axcodes2ornt("RAS"))
    oriented = affine @ inv_ornt_aff(to_ras, shape)
    size = np.asarray(shape)[np.argsort(to_ras[:, 0])]
    wanted, present = np.append(pixdim, [pixdim[-1]] * 3)[:3], affine_to_spacing(oriented, 3)
    spaced = zoom_affine(oriented, np.where(np.abs(wanted - present) <= AFFINE_TOL, present, wanted), diagonal=False)
    new_size, spaced[:3, 3] = compute_shape_offset(size, oriented, spaced)
    change = np.linalg.solve(oriented, spaced)
    pairs = ((oriented, spaced), (change, np.eye(4)))
    if np.array_equal(new_size, size) and any(np.allclose(*pair, atol=AFFINE_TOL) for pair in pairs):
        spaced = oriented
    return Grid(spaced, tuple(int(length) for length in new_size), np.linalg.solve(affine, spaced))


class Taps(NamedTuple):
    """For each position along an axis the two neighbours, (N,) int, and the second one's weight, (N,) float32."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.float32]


def taps(positions: NDArray[np.float64], size: int, nearest: bool) -> Taps:
    """Neighbours among `size` voxels; beyond the ends, the last voxel. Half-way, the nearest is the even one."""
    inside = positions.clip(0, size - 1)
    if nearest:
        low = np.rint(inside).astype(np.intp)
        return Taps(low, low, np.zeros(len(low), dtype=np.float32))
    low = np.floor(inside).astype(np.intp)
    return Taps(low, np.minimum(low + 1, size - 1), (inside - low).astype(np.float32))


def interpolate(values: NDArray, where: Taps, axis: int) -> NDArray:
    """`values` (D, H, W) at positions along `axis`: float32, or of their own type where all weights are 0."""
    low = values.take(where.low, axis)
    if not where.weight.any():
        return low
    low = low.astype(np.float32, copy=False)
    result = values.take(where.high, axis) - low
    result *= where.weight.reshape(-1, *[1] * (2 - axis))
    result += low
    return result


def slab_depth(grid: Grid, shape: Sequence[int]) -> int:
    """How many slices of a file of `shape` to handle at once."""
    columns, rows, _ = grid.axes
    return max(1, SLAB_VOXELS // max(shape[0] * shape[1], grid.shape[columns] * grid.shape[rows]))


def resample_slabs(
    slabs: Iterable[NDArray], grid: Grid, shape: Sequence[int], target: NDArray, nearest: bool = False
) -> None:
    """Fill `target` with trilinear or nearest values of a volume that comes in slabs, one after the other.

    Args:
        slabs: arrays (d, W, H), consecutive slices along the last axis of the file, whose first axis comes last.
        grid: of the target; separable.
        shape: (H, W, D) of the file.
        target: `grid.shape`, written to; float32, or for `nearest` any type that holds the values.
        nearest: take the nearest voxel instead of interpolating.
    """
    columns, rows, slices = (taps(grid.positions(axis), shape[axis], nearest) for axis in range(3))
    in_file_order = target.transpose(grid.axes[::-1])
    seen, last = 0, []  # slices so far, and the last one, at the new spacing
    for slab in slabs:
        planes = np.concatenate([*last, interpolate(interpolate(slab, rows, 1), columns, 2)])
        due = np.flatnonzero((slices.high >= seen) & (slices.high < seen + len(slab)))
        if len(due):
            first = seen - len(last)
            here = Taps(slices.low[due] - first, slices.high[due] - first, slices.weight[due])
            in_file_order[due[0] : due[-1] + 1] = interpolate(planes, here, 0)
        seen += len(slab)
        last = [planes[-1:].copy()]
