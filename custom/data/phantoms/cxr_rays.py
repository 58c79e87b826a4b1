"""From a chest in millimetres to line integrals: sample points along the rays of a cone beam, and thin tubes.

Soft parts are sampled along the rays. Vessels, ribs and wires are thinner than a sample: they are chains of points
whose projections are convolved with discs, since a line of discs of radius r adds up to the chord of a cylinder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import fftfreq, irfft2, next_fast_len, rfft2, rfftfreq
from scipy.ndimage import zoom
from scipy.special import j1

from .shapes import Grid

RADIUS_STEP = 1.25  # tubes whose radii differ by less than this factor share a disc


@dataclass(frozen=True)
class Rays(Grid):
    """A grid whose first and last axes are the image plane and whose second runs along the rays.

    World mm are measured in the plane of the chest's centre, where the magnification is 1; `source` is where the X-rays
    come from along the second axis, negative behind the patient (PA). `pose` turns the patient.
    """

    source: float = -1800.0
    pose: NDArray = field(default_factory=lambda: np.eye(3))

    def spread(self, depth: ArrayLike) -> NDArray:
        """Width of a ray bundle at `depth` mm in front of the chest's centre, as a factor."""
        return 1 - np.asarray(depth, np.float32) / np.float32(self.source)

    def _anatomy(self, axes: Sequence[NDArray]) -> NDArray:
        """Anatomy coordinates (3, H, W, D) of the points along the rays."""
        u, y, v = np.meshgrid(*(np.asarray(axis, np.float32) for axis in axes), indexing="ij", sparse=True)
        spread, shift = self.spread(y), self.shift.astype(np.float32)
        x, y, z = u * spread - shift[0], y - shift[1], v * spread - shift[2]
        turn = (self.pose.T / self.size).astype(np.float32)
        return np.stack([(row[0] * x + row[1] * y) + row[2] * z for row in turn])

    def locate(self, points: NDArray) -> NDArray:
        """Where anatomy points (n, 3) lie in the world: image plane, depth, image plane."""
        world = (points * self.size) @ self.pose.T + self.shift
        spread = self.spread(world[:, 1])
        return np.stack([world[:, 0] / spread, world[:, 1], world[:, 2] / spread], axis=1)

    def indices(self, points: NDArray) -> NDArray:
        """Fractional voxel indices (3, n) of anatomy points (n, 3)."""
        world = self.locate(points)
        steps = [(world[:, i] - axis[0]) / (axis[1] - axis[0]) for i, axis in enumerate(self.axes)]
        return np.stack(steps)

    @property
    def depth_mm(self) -> float:
        """Distance between two samples along a ray."""
        return float(self.axes[1][1] - self.axes[1][0])


@dataclass(frozen=True)
class Tubes:
    """Chains of points (n, 3) in anatomy mm: each stands for `length` mm of a tube of `radius` mm, both (n,).

    `weight` (n,) is the difference of attenuation to what the tube replaces, in units of soft tissue.
    """

    points: NDArray
    radius: NDArray
    length: NDArray
    weight: NDArray

    @classmethod
    def join(cls, parts: Sequence[Tubes]) -> Tubes:
        """All chains in one."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def weighted(self, factor: ArrayLike) -> Tubes:
        """The same tubes with another weight."""
        return Tubes(self.points, self.radius, self.length, self.weight * factor)


def curve(course: ArrayLike, radius: ArrayLike, weight: float = 1.0, step: float = 1.2) -> Tubes:
    """A smooth tube through `course` (n, 3) with `radius` mm, a number or (n,)."""
    course = np.asarray(course, float)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(course, axis=0), axis=1))])
    count = max(2, int(along[-1] / step) + 1)
    where = (np.arange(count) + 0.5) * along[-1] / count
    radii = np.interp(where, along, np.broadcast_to(np.asarray(radius, float), along.shape))
    return Tubes(hermite(along, course, where), radii, np.full(count, along[-1] / count), np.full(count, float(weight)))


def hermite(along: NDArray, course: NDArray, where: NDArray) -> NDArray:
    """The smooth curve (m, 3) through `course` (n, 3), whose points lie at `along` (n,), at positions `where` (m,)."""
    slope = np.gradient(course, along, axis=0, edge_order=1)
    start = np.clip(np.searchsorted(along, where) - 1, 0, len(along) - 2)
    gap = np.diff(along)[start][:, None]
    t = (where - along[start])[:, None] / gap
    rise = course[start + 1] - course[start]
    bend = t * (1 - t) * ((1 - t) * (gap * slope[start] - rise) - t * (gap * slope[start + 1] - rise))
    return course[start] + t * rise + bend


@dataclass
class Film:
    """Line integrals in mm of soft tissue (H, W), rows downwards, columns from the patient's right to the left.

    `pixel` is in mm at the chest's centre; `x` (W,) and `z` (H,) are where the pixels lie in the rays' plane.
    """

    shape: tuple[int, int]
    pixel: float
    rays: Rays
    total: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros(self.shape, np.float32)
        self.x, self.z = (-(np.arange(n) - (n - 1) / 2) * self.pixel for n in self.shape[::-1])

    def add_volume(self, attenuation: NDArray) -> None:
        """Add an attenuation (U, Y, V) on the rays' grid, in units of soft tissue."""
        plane = attenuation.sum(1).T[::-1, ::-1] * self.rays.depth_mm  # (V, U)
        factors = [n / m for n, m in zip(self.shape, plane.shape, strict=True)]
        self.total += zoom(plane, factors, order=3, mode="nearest", grid_mode=True)[: self.shape[0], : self.shape[1]]

    def pixels(self, points: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Row, column (n,) and width of the ray bundle (n,) of anatomy points (n, 3)."""
        world = self.rays.locate(points)
        column = (self.shape[1] - 1) / 2 - world[:, 0] / self.pixel
        row = (self.shape[0] - 1) / 2 - world[:, 2] / self.pixel
        return row, column, self.rays.spread(world[:, 1])

    def add_tubes(self, tubes: Tubes) -> None:
        """Add thin tubes: one Fourier transform for each group of similar radii."""
        row, column, spread = self.pixels(tubes.points)
        radius = tubes.radius * self.rays.size / spread / self.pixel
        mass = tubes.weight * tubes.length * self.rays.size
        pad = int(np.ceil(min(radius.max(), 40))) + 3
        sizes = [next_fast_len(n + 2 * pad, real=True) for n in self.shape]
        frequency = np.hypot(fftfreq(sizes[0])[:, None], rfftfreq(sizes[1])[None]).astype(np.float32)
        smooth = np.exp(-2 * (np.pi * 0.45 * frequency) ** 2)
        groups = np.rint(np.log(np.maximum(radius, 0.05)) / np.log(RADIUS_STEP)).astype(int)
        spectrum = np.zeros(frequency.shape, np.complex64)
        for group in np.unique(groups):
            chosen = groups == group
            dots = splat(row[chosen] + pad, column[chosen] + pad, mass[chosen], sizes)
            spectrum += rfft2(dots) * disc_spectrum(frequency, float(np.mean(radius[chosen])))
        image = irfft2(spectrum * smooth, sizes)
        self.total += image[pad : pad + self.shape[0], pad : pad + self.shape[1]]


def disc_spectrum(frequency: NDArray, radius: float) -> NDArray[np.float32]:
    """Fourier transform of a disc of height 1 and `radius` pixels at `frequency` in cycles a pixel."""
    phase = np.maximum(2 * np.pi * radius * frequency, 1e-4)
    return (2 * np.pi * radius**2 * j1(phase) / phase).astype(np.float32)


def splat(row: NDArray, column: NDArray, mass: NDArray, sizes: Sequence[int]) -> NDArray[np.float32]:
    """An image (sizes) of points with their mass shared between the four nearest pixels; outside is dropped."""
    inside = (row >= 0) & (column >= 0) & (row < sizes[0] - 1) & (column < sizes[1] - 1)
    row, column, mass = row[inside], column[inside], mass[inside]
    top, left = row.astype(int), column.astype(int)
    below, right = row - top, column - left
    image = np.zeros(sizes[0] * sizes[1])
    for step, share in (
        (0, (1 - below) * (1 - right)),
        (1, (1 - below) * right),
        (sizes[1], below * (1 - right)),
        (sizes[1] + 1, below * right),
    ):
        image += np.bincount(top * sizes[1] + left + step, mass * share, image.size)
    return image.reshape(sizes).astype(np.float32)
