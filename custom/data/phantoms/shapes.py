"""Geometry in patient millimetres: smooth random fields, warped sampling grids, super-ellipsoids and tubes.

Everything random lives on lattices in millimetres, never on voxels: another grid samples the same body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import map_coordinates
from scipy.sparse import csr_array

Axes = tuple[NDArray, NDArray, NDArray]
Box = tuple[slice, slice, slice]

EXTENT_MM = 260.0  # random lattices cover -EXTENT_MM..EXTENT_MM along every axis, unless told otherwise
STRETCH = 1.45  # a warped shape is at most this much longer than its design


def mm(right: float, front: float, up: float) -> NDArray[np.float64]:
    """A displacement in mm."""
    return np.array((right, front, up), float)


def spline_weights(coordinates: ArrayLike, scale: float, extent: float = EXTENT_MM) -> NDArray[np.float32]:
    """Cubic B-spline weights (n, knots) at n coordinates in mm, for knots `scale` mm apart; four a row are not zero."""
    knots = np.arange(int(2 * extent / scale) + 4) - 1.5
    distance = np.abs((np.asarray(coordinates, float)[:, None] + extent) / scale - knots)
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = np.clip(2 - distance, 0, None) ** 3 / 6
    return np.where(distance < 1, near, far).astype(np.float32)


class SmoothField:
    """A smooth Gaussian field of zero mean and about unit variance with features of about `scale` mm."""

    def __init__(self, rng: np.random.Generator, scale: float, extent: float = EXTENT_MM) -> None:
        self.scale, self.extent = scale, extent
        count = int(2 * extent / scale) + 4
        # A cubic B-spline keeps .479 of the variance of its knots along each axis.
        self.knots = (rng.standard_normal((count,) * 3) / 0.479**1.5).astype(np.float32)

    def __call__(self, axes: Sequence[ArrayLike]) -> NDArray[np.float32]:
        """Values (H, W, D) on the grid spanned by three 1-D coordinate arrays in mm."""
        values = self.knots
        for axis in axes:
            # Sparse: a sixteenth of the work, and unlike BLAS no threads that compete with other worker processes.
            product = csr_array(spline_weights(axis, self.scale, self.extent)) @ values.reshape(len(values), -1)
            values = np.moveaxis(product.reshape(-1, *values.shape[1:]), 0, -1)
        return np.ascontiguousarray(values)

    def at(self, points: NDArray) -> NDArray[np.float32]:
        """Values (n,) at scattered points (n, 3) in mm."""
        weights = [spline_weights(points[:, axis], self.scale, self.extent) for axis in range(3)]
        planes = np.einsum("ni,ijk->njk", weights[0], self.knots)
        return np.einsum("njk,nj,nk->n", planes, weights[1], weights[2])

    def sample(self, points: NDArray) -> NDArray[np.float32]:
        """Values (...) at many scattered points (3, ...) in mm; faster than `at` for more than about 100."""
        index = (points + self.extent) / self.scale + 1.5
        return map_coordinates(self.knots, index, order=3, mode="nearest", prefilter=False)


@dataclass(frozen=True)
class Grid:
    """Voxel centres in world mm and, through the subject's size, shift and smooth warp, in anatomy mm.

    Axes run to the patient's right, front and head (RAS); the origin is the centre of the field of view.
    """

    axes: Axes
    size: float = 1.0
    shift: NDArray = field(default_factory=lambda: np.zeros(3))
    warp: tuple[SmoothField, ...] = ()
    warp_mm: float = 0.0
    points: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", self._anatomy(self.axes).astype(np.float32))

    @classmethod
    def regular(cls, shape: Sequence[int], spacing: Sequence[float], **deformation: object) -> Grid:
        """A grid of `shape` voxels of `spacing` mm centred on the origin."""
        axes = tuple((np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing, strict=True))
        return cls(axes=axes, **deformation)

    def _anatomy(self, axes: Sequence[NDArray]) -> NDArray:
        """Anatomy coordinates (3, H, W, D) of the world grid spanned by `axes`."""
        points = np.stack(np.meshgrid(*axes, indexing="ij"))
        points = (points - self.shift[:, None, None, None]) / self.size
        for axis, smooth in enumerate(self.warp):
            points[axis] += self.warp_mm * smooth(axes)
        return points

    def locate(self, points: NDArray) -> NDArray:
        """The world positions (n, 3) of anatomy points (n, 3), by fixed-point iteration."""
        rest = points * self.size + self.shift
        world = rest
        for _ in range(4 if self.warp else 0):
            moved = np.stack([smooth.at(world) for smooth in self.warp], axis=1)
            world = rest - self.warp_mm * self.size * moved
        return world

    def boxes(self, centres: ArrayLike, reach: ArrayLike) -> list[Box]:
        """For each of n anatomy points (n, 3), the voxels that may lie within `reach` (n, 3) mm along each axis."""
        world, reach = self.locate(np.asarray(centres, float)), np.asarray(reach, float) * STRETCH + 3
        corners = np.stack([world - reach, world + reach], axis=1)
        found = np.stack([np.searchsorted(axis, corners[..., i]) for i, axis in enumerate(self.axes)], axis=2)
        return [tuple(slice(int(low), int(high)) for low, high in limits.T) for limits in found]

    def axes_of(self, box: Box) -> Axes:
        """The 1-D world coordinates of the voxels in a box."""
        return tuple(axis[part] for axis, part in zip(self.axes, box, strict=True))


@dataclass
class Solid:
    """A shape on a grid: signed distance to its surface in anatomy mm (negative inside), within a box of voxels."""

    box: Box
    distance: NDArray[np.float32]

    def roughen(self, grid: Grid, noise: SmoothField, amplitude: float) -> Solid:
        """The same solid with a surface that wanders by `amplitude` mm (one standard deviation)."""
        return Solid(self.box, self.distance + amplitude * noise(grid.axes_of(self.box)))

    def within(self, distance: NDArray[np.float32]) -> Solid:
        """The part of the solid where a field over the whole grid is negative."""
        return Solid(self.box, np.maximum(self.distance, distance[self.box]))


def unite(first: Solid, second: Solid) -> Solid:
    """The union of two solids, in the smallest box that holds both."""
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first.box, second.box, strict=True))
    distance = np.full([part.stop - part.start for part in box], 1e3, np.float32)
    for solid in (first, second):
        inner = tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(solid.box, box, strict=True))
        np.minimum(distance[inner], solid.distance, out=distance[inner])
    return Solid(box, distance)


def rotation_matrix(angles: ArrayLike) -> NDArray:
    """Rotation by `angles` rad about the first, second and third axis, in that order."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    first = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    second = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    third = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return third @ second @ first


def ellipsoid(
    grid: Grid, centre: ArrayLike, radii: ArrayLike, angles: ArrayLike = (0, 0, 0), power: float = 2.2, reach: float = 6
) -> Solid:
    """A rotated super-ellipsoid; its distance holds up to about `reach` mm outside the surface."""
    radii, turn = np.asarray(radii, float), rotation_matrix(angles)
    (box,) = grid.boxes([centre], [np.abs(turn) @ radii + reach])
    offset = grid.points[(slice(None), *box)] - np.asarray(centre, np.float32)[:, None, None, None]
    local = np.einsum("ab,bhwd->ahwd", (turn.T / radii[:, None]).astype(np.float32), offset)
    level = np.maximum((np.abs(local) ** power).sum(0) ** (1 / power), 1e-3)
    return Solid(box, np.sqrt((offset**2).sum(0)) * (1 - 1 / level))


def tube(grid: Grid, points: ArrayLike, radii: ArrayLike, reach: float = 6) -> Solid:
    """A smooth tube through `points` (n, 3) with radii (n,), both in anatomy mm, as a chain of spheres."""
    centres, radii = resample_curve(np.asarray(points, float), np.broadcast_to(np.asarray(radii, float), len(points)))
    boxes = grid.boxes(centres, radii[:, None] + np.full(3, reach))
    hull = tuple(slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3))
    distance = np.full([part.stop - part.start for part in hull], 1e3, np.float32)
    for box, centre, radius in zip(boxes, centres.astype(np.float32), radii, strict=True):
        inner = tuple(slice(b.start - h.start, b.stop - h.start) for b, h in zip(box, hull, strict=True))
        offset = grid.points[(slice(None), *box)] - centre[:, None, None, None]
        np.minimum(distance[inner], np.sqrt((offset**2).sum(0)) - np.float32(radius), out=distance[inner])
    return Solid(hull, distance)


def resample_curve(points: NDArray, radii: NDArray) -> tuple[NDArray, NDArray]:
    """Monotone cubic interpolation through (n, 3) points, dense enough that a chain of spheres looks smooth."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(steps)])
    count = max(3, int(along[-1] / (0.45 * radii.min())) + 1)
    where = np.linspace(0, along[-1], count)
    return PchipInterpolator(along, points)(where), PchipInterpolator(along, radii)(where)
