"""The healthy brain as layers: folded cortex, white and deep grey matter, cerebellum, brain stem and ventricles."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .mr_head import MIRROR, SIDES, Head, capsules, ellipsoid_distance, field_distance
from .shapes import mm

Layers = list[
    tuple[str, NDArray[np.float32]]
]  # tissue and its share (n,) of every voxel; later ones cover earlier ones


class Brain:
    """The anatomy of a head at n points (3, n) in anatomy mm, of which every point stands for `voxel_mm` of tissue.

    `effaced` (n,) is how many mm of fluid a tumour presses out of the sulci there.
    """

    def __init__(self, head: Head, points: NDArray, voxel_mm: float, effaced: ArrayLike = 0.0) -> None:
        self.head, self.points, self.effaced = head, points.astype(np.float32), effaced
        self.width = max(voxel_mm, 1.0)

    def share(self, distance: NDArray) -> NDArray[np.float32]:
        """How much of each voxel lies on the negative side of a surface."""
        return np.clip(0.5 - distance / self.width, 0, 1).astype(np.float32)

    def layers(self) -> Layers:
        """The healthy tissues from bottom to top."""
        everything = np.ones(self.points.shape[1], np.float32)
        return [("csf", everything), *self.cortex(), *self.hindbrain(), *self.deep_grey(), *self.fluid()]

    @cached_property
    def main(self) -> NDArray[np.float32]:
        return self.head.cerebrum(self.points)

    @cached_property
    def lobes(self) -> NDArray[np.float32]:
        """Distance to the nearer temporal lobe."""
        return np.minimum(*(self.head.temporal(self.points, side) for side in SIDES))

    @cached_property
    def cerebellum(self) -> NDArray[np.float32]:
        return self.head.cerebellum(self.points)

    @cached_property
    def depth(self) -> NDArray[np.float32]:
        """Distance to the outline of the cerebrum, positive inside."""
        return -np.minimum(self.main, self.lobes)

    @cached_property
    def callosum(self) -> NDArray[np.float32]:
        """Distance to the cylinder across the midline where both hemispheres are joined."""
        flat = self.points * np.array([[0], [1], [1]])
        return ellipsoid_distance(flat, mm(0, -5, 4), mm(1, 45, 25))

    @cached_property
    def fissure(self) -> NDArray[np.float32]:
        """Distance to the sheet between both hemispheres."""
        bend = 1.2 * self.head.wander("falx", self.points * np.array([[0], [1], [1]]), 40)
        return np.abs(self.points[0] - bend) + 1.5 * np.clip(-self.callosum, 0, None)

    @cached_property
    def pial(self) -> NDArray[np.float32]:
        """Distance to the fluid around the cortex, on its outside or in any fold."""
        sylvian = 0.6 * np.abs(self.main - self.lobes) + np.clip(self.depth - 20, 0, None)
        tentorium = 0.5 * (self.cerebellum + self.depth)
        outside = self.head.roughen(self.depth, "surface", self.points, 12, 0.6)
        pial = np.min([outside, sylvian, self.fissure, tentorium], axis=0)
        shallow = (self.depth < 34) & (self.depth > -2)
        pial[shallow] = np.minimum(pial[shallow], self.folds(self.points[:, shallow], self.depth[shallow]))
        return pial

    def folds(self, points: NDArray, depth: NDArray) -> NDArray[np.float32]:
        """Distance to the sulci: sheets of a noise that hardly changes along the way inwards."""
        centre = mm(0, -5, 0)[:, None] + np.array([[0.0], [0.45], [0.0]]) * points
        ray = points - centre
        length = np.sqrt((ray**2).sum(0))
        rolled = centre + ray * (55 / np.maximum(length, 1)) ** 0.9
        field = self.head.noise("sulci", 7.6 - 0.6 * self.head.latents.folding)
        reach = 17 + 5 * self.head.wander("sulcus depth", points, 24)
        return field_distance(field, rolled, 2.0) + np.clip(depth - reach, 0, None)

    @cached_property
    def sulcus_mm(self) -> NDArray[np.float32]:
        """Half the width of the fluid in the sulci."""
        return (
            0.75 + 0.3 * self.head.latents.age + 0.35 * self.head.wander("sulcus width", self.points, 30) - self.effaced
        )

    def cortex(self) -> Layers:
        """A ribbon of about 3 mm around white matter."""
        inner = self.head.roughen(self.sulcus_mm + 3.3 - self.pial, "ribbon", self.points, 18, 0.5)
        return [("grey", self.share(self.sulcus_mm - self.pial)), ("white", self.share(inner))]

    def hindbrain(self) -> Layers:
        """Cerebellum with its leaves around a white core, and the brain stem."""
        gap = np.maximum(self.cerebellum, 0.5 * (self.cerebellum + self.depth))
        grey = gap + 0.8
        outer = (gap < 2) & (gap > -12)
        points = self.points[:, outer] * np.array([[0.4], [1], [1.3]])
        leaves = field_distance(self.head.noise("leaves", 7), points, 1.5) + np.clip(-gap[outer] - 9, 0, None)
        grey[outer] = np.maximum(grey[outer], 0.5 - leaves)
        core = self.head.roughen(gap + 7, "arbor", self.points, 9, 2.5)
        stem = self.head.stem(self.points) + 1.2
        tissues = {"csf": gap, "grey": grey, "white": core, "stem": stem}
        return [(tissue, self.share(distance)) for tissue, distance in tissues.items()]

    def deep_grey(self) -> Layers:
        """Thalamus, caudate, putamen and pallidum of both sides."""
        parts = (
            ("deep grey", "thalamus", (12, -16, 8), (9, 15, 9)),
            ("deep grey", "putamen", (27, 4, 3), (5.5, 17, 10)),
            ("pallidum", "pallidum", (20, 0, 1), (4.5, 9, 6)),
            ("deep grey", "caudate", (15, 16, 12), (5, 14, 9)),
        )
        layers = []
        for tissue, name, centre, radii in parts:
            sides = [ellipsoid_distance(self.points, mm(*centre) * turn, radii) for turn in (1, MIRROR)]
            rough = self.head.roughen(np.minimum(*sides), name, self.points, 12, 0.8)
            layers.append((tissue, self.share(rough)))
        return layers

    @cached_property
    def ventricle(self) -> NDArray[np.float32]:
        """Distance to the lateral, third and fourth ventricles."""
        grow = np.exp(0.22 * self.head.latents.age + 0.12 * self.head.rng("ventricles").standard_normal())
        lateral = []
        for side in SIDES:
            uneven = grow * np.exp(0.12 * self.head.rng(f"ventricle {side}").standard_normal())
            body = [(9, 34, 6), (8, 20, 13), (9, -4, 19), (13, -24, 18), (24, -38, 9), (19, -60, 6)]
            horn = [(24, -38, 9), (33, -26, -10), (33, -4, -17)]
            turn = mm(side, 1, 1)
            lateral.append(capsules(self.points, body * turn, np.array([3.5, 5, 4.2, 4.5, 6, 1.5]) * uneven))
            lateral.append(capsules(self.points, horn * turn, np.array([5, 2.2, 1.2]) * uneven))
        third = ellipsoid_distance(self.points, mm(0, -10, 3), mm(1.8 * grow, 14, 9))
        fourth = ellipsoid_distance(self.points, mm(0, -36, -34), mm(7, 4, 8) * grow**0.5)
        smooth = np.min([*lateral, third, fourth], axis=0)
        return self.head.roughen(smooth, "ventricle wall", self.points, 14, 0.7)

    def fluid(self) -> Layers:
        """The ventricles."""
        return [("csf", self.share(self.ventricle))]


def blend(layers: Layers, values: dict[str, ArrayLike]) -> NDArray[np.float32]:
    """Mix a value (C,) of every tissue by the layers' shares, bottom first: (C, n)."""
    mixed = 0.0
    for tissue, share in layers:
        mixed = mixed + share * (np.reshape(values[tissue], (-1, 1)) - mixed)
    return np.asarray(mixed, np.float32)
