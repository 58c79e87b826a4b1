"""What makes one synthetic head: shared latents, its size and warp, and the outlines of its brain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .shapes import Grid, SmoothField, mm
from .subject import Streams

WARP_MM = 3.0
WARP_SCALE_MM = 75.0
MIRROR = mm(-1, 1, 1)
SIDES = (1, -1)  # right and left


@dataclass(frozen=True)
class HeadLatents:
    """Five standard normal numbers, clipped at two; age widens ventricles and sulci and adds white matter lesions."""

    size: float
    length: float
    width: float
    age: float
    folding: float


class Head(Streams):
    """A head: patient `index` of the population `seed`. Points are (3, n) in anatomy mm."""

    extent_mm = 140.0

    def __init__(self, seed: int, index: int) -> None:
        super().__init__(seed, index)
        self.latents = HeadLatents(*np.clip(self.rng("latents").standard_normal(5), -2, 2).tolist())
        self.stretch = np.exp([0.03 * self.latents.width, 0.03 * self.latents.length, 0.0])

    def grid(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
        """The scan's voxels in this patient's anatomy: size, position, and a smooth warp."""
        shift = 2.5 * np.clip(self.rng("position").standard_normal(3), -2, 2)
        warp = tuple(self.noise(f"warp {axis}", WARP_SCALE_MM) for axis in "xyz")
        size = 1.0 + 0.03 * self.latents.size
        return Grid.regular(shape, spacing, size=size, shift=shift, warp=warp, warp_mm=WARP_MM)

    def cerebrum(self, points: NDArray) -> NDArray[np.float32]:
        """Distance to both hemispheres above the base of the skull: high at the back, narrow in front, flat below."""
        x, y, z = points - mm(0, 0, 12)[:, None]
        wide, long, high = mm(65, 82, 55) * self.stretch
        scaled = np.stack([x / (wide * (1 - 0.16 * y / long)), y / long, z / np.where(z > 0, high, 0.78 * high)])
        return from_level(np.stack([x, y, z]), scaled, 2.3)

    def temporal(self, points: NDArray, side: int) -> NDArray[np.float32]:
        """Distance to one temporal lobe."""
        return ellipsoid_distance(points, mm(side * 40, 6, -19), mm(26, 43, 24) * self.stretch, 2.2)

    def cerebellum(self, points: NDArray) -> NDArray[np.float32]:
        return ellipsoid_distance(points, mm(0, -48, -37), mm(50, 31, 24) * self.stretch, 2.2)

    def stem(self, points: NDArray) -> NDArray[np.float32]:
        return capsules(points, [(0, -12, -12), (0, -20, -32), (0, -30, -76)], (13, 13, 9))

    def envelope(self, points: NDArray) -> NDArray[np.float32]:
        """Distance to the skull-stripped brain with the fluid in its sulci."""
        parts = [self.cerebrum(points), self.cerebellum(points), self.stem(points)]
        parts += [self.temporal(points, side) for side in SIDES]
        return np.min(parts, axis=0)

    def roughen(
        self, distance: NDArray, name: str, points: NDArray, scale: float, amplitude: float
    ) -> NDArray[np.float32]:
        """A distance (n,) whose surface wanders by `amplitude` mm; noise is drawn only where it can matter."""
        near = np.abs(distance) < 4 * amplitude + 4
        distance = distance.astype(np.float32)
        distance[near] += amplitude * self.wander(name, points[:, near], scale)
        return distance

    def wander(self, name: str, points: NDArray, scale: float) -> NDArray[np.float32]:
        """A smooth random field of its own at scattered points (3, n)."""
        return self.noise(name, scale).sample(points)


def from_level(offset: NDArray, scaled: NDArray, power: float) -> NDArray[np.float32]:
    """Distance in mm along the ray from the centre; `scaled` is the offset in units of the radii."""
    level = np.maximum((np.abs(scaled) ** power).sum(0) ** (1 / power), 1e-3)
    return (np.sqrt((offset**2).sum(0)) * (1 - 1 / level)).astype(np.float32)


def ellipsoid_distance(points: NDArray, centre: ArrayLike, radii: ArrayLike, power: float = 2.0) -> NDArray[np.float32]:
    """Distance of points (3, n) to a super-ellipsoid along the axes."""
    offset = points - np.asarray(centre, np.float32)[:, None]
    return from_level(offset, offset / np.asarray(radii, np.float32)[:, None], power)


def capsules(points: NDArray, course: ArrayLike, radii: ArrayLike) -> NDArray[np.float32]:
    """Distance of points (3, n) to a chain of straight tubes through `course` (m, 3) with radii (m,)."""
    course = np.asarray(course, np.float32)
    radii = np.broadcast_to(np.asarray(radii, np.float32), len(course))
    nearest = np.full(points.shape[1], 1e3, np.float32)
    for start, end, first, last in zip(course[:-1], course[1:], radii[:-1], radii[1:], strict=True):
        along = end - start
        offset = points - start[:, None]
        where = np.clip(along @ offset / (along @ along), 0, 1)
        gap = np.sqrt(((offset - along[:, None] * where) ** 2).sum(0)) - (first + (last - first) * where)
        np.minimum(nearest, gap, out=nearest)
    return nearest


def field_distance(field: SmoothField, points: NDArray, step: float) -> NDArray[np.float32]:
    """Distance in mm of points (3, n) to the sheet where a field is zero, from its slope over `step` mm."""
    value = field.sample(points)
    slope = [field.sample(points + step * unit[:, None]) - value for unit in np.eye(3)]
    return np.abs(value) * step / np.maximum(np.sqrt(np.square(slope).sum(0)), 0.25 * step / field.scale)
