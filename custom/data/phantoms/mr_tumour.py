"""A glioma: necrotic core, irregular enhancing rim, oedema that spreads along white matter, and mass effect."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from .mr_anatomy import Brain, Layers, blend
from .mr_head import Head, ellipsoid_distance
from .mr_oedema import LATTICE_MM, SPEED, spread

EDEMA, CORE, ENHANCING = 1, 2, 3  # labels of MSD Task01


@dataclass(frozen=True)
class TumourPlan:
    """The random numbers of one tumour; lengths in mm, shares of full signal from 0 to 1."""

    radius: float
    reach: float  # how far oedema gets in white matter
    push: float  # share of the radius by which tissue was displaced
    rim: float
    enhances: bool
    uptake: float  # share of the rim that takes up contrast agent
    fluid: float  # share of fluid in the necrosis; without it, necrosis looks as oedema does
    wet: float  # share of water in the oedema next to the core

    @classmethod
    def draw(cls, rng: np.random.Generator) -> TumourPlan:
        radius = float(np.clip(15 * np.exp(0.3 * rng.standard_normal()), 8, 28))
        reach, push, rim = rng.uniform(4, 18), rng.uniform(0.15, 0.6), rng.uniform(3, 8)
        shares = rng.uniform((0.4, 0.0, 0.55), (1, 0.85, 1)).tolist()
        return cls(radius, reach, push, rim, bool(rng.random() > 0.1), *shares)


class Tumour:
    """The tumour of a head, placed in deep white matter of the cerebrum."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self.plan = TumourPlan.draw(head.rng("tumour"))
        self.centre = self._choose_centre()

    def _choose_centre(self) -> NDArray[np.float64]:
        """The first of many candidates in white matter with room around it."""
        rng = self.head.rng("tumour centre")
        points = rng.uniform((-48, -62, -22), (48, 56, 54), (150, 3)).T
        brain = Brain(self.head, points, LATTICE_MM)
        white = blend(brain.layers(), {tissue: tissue == "white" for tissue in SPEED})[0]
        reach = self.plan.radius * np.array([[0.75], [0.4], [0.4], [0.8]])
        room = np.stack([brain.depth, brain.ventricle - 2, np.abs(points[0]), brain.cerebellum]) - reach
        room = room.min(axis=0)  # (150,)
        good = np.flatnonzero((white > 0.6) & (room > 0))
        return points[:, good[0] if good.size else np.argmax(room)]

    def _toward(self, points: NDArray) -> NDArray[np.float32]:
        """Distance (n,) of points (3, n) from the centre."""
        return np.sqrt(((points - self.centre[:, None]) ** 2).sum(0)).astype(np.float32)

    def before(self, points: NDArray) -> NDArray[np.float32]:
        """Where the tissue at points (3, n) was before the tumour pushed it outwards; the skull holds its place."""
        radius = self._toward(points) / self.plan.radius
        room = np.clip(-self.head.envelope(points) / 14, 0, 1)
        pull = self.plan.push * room * np.exp(-((radius / 1.9) ** 2))
        return (points + pull * (self.centre[:, None] - points)).astype(np.float32)

    def effaced(self, points: NDArray) -> NDArray[np.float32]:
        """How many mm of fluid are pressed out of the sulci around the tumour."""
        return 3.0 * np.exp(-((self._toward(points) / (1.5 * self.plan.radius)) ** 4))

    def core_distance(self, points: NDArray) -> NDArray[np.float32]:
        """Distance of points (3, n) to the irregular surface of the core."""
        rng, radius = self.head.rng("tumour shape"), self.plan.radius
        radii = radius * np.exp(0.2 * np.clip(rng.standard_normal(3), -2, 2))
        smooth = ellipsoid_distance(points, self.centre, radii)
        rough = self.head.roughen(smooth, "tumour lobes", points, 0.8 * radius, 0.17 * radius)
        return self.head.roughen(rough, "tumour surface", points, 6, 0.9)

    def rim_mm(self, points: NDArray, surface: NDArray) -> NDArray[np.float32]:
        """Thickness (n,) of the enhancing rim, negative in gaps; `surface` is the distance to the core's outside."""
        if not self.plan.enhances:
            return np.full(points.shape[1], -1e3, np.float32)
        rim = np.full(points.shape[1], self.plan.rim, np.float32)
        near = surface < 3
        rim[near] *= 1 + 0.6 * self.head.wander("tumour rim", points[:, near], 13)
        return rim

    def brain(self, points: NDArray, voxel_mm: float) -> Brain:
        """The anatomy at points (3, n), displaced by the tumour."""
        return Brain(self.head, self.before(points), voxel_mm, self.effaced(points))

    @cached_property
    def _arrival(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """On a lattice of its own: the time at which oedema arrives, and the lattice's first corner in mm."""
        half = int(np.ceil((1.6 * self.plan.radius + self.plan.reach + 4) / LATTICE_MM))
        steps = LATTICE_MM * np.arange(-half, half + 1)
        points = self.centre[:, None] + np.stack(np.meshgrid(steps, steps, steps, indexing="ij")).reshape(3, -1)
        brain = self.brain(points, LATTICE_MM)
        speed = blend(brain.layers(), SPEED)[0] * np.exp(0.35 * self.head.wander("oedema speed", points, 14))
        speed[self.head.envelope(points) > 0] = SPEED["csf"]
        time = spread(speed.reshape((steps.size,) * 3), self.core_distance(points) < 0, self.plan.reach + 4)
        return gaussian_filter(time, 0.5, mode="nearest"), self.centre + steps[0]

    def oedema_time(self, points: NDArray) -> NDArray[np.float32]:
        """mm of white matter between the core and points (3, n); large where oedema never gets."""
        time, corner = self._arrival
        index = (points - corner[:, None]) / LATTICE_MM
        late = map_coordinates(time, index, order=1, mode="nearest") - self.plan.reach
        return self.head.roughen(late, "oedema edge", points, 6, 0.8) + self.plan.reach

    def layers(self, brain: Brain, points: NDArray, solid: NDArray) -> tuple[Layers, NDArray[np.uint8]]:
        """Oedema, core and rim at points (3, n) whose displaced anatomy is `brain`, and their labels (n,).

        `solid` (n,) is the share that is neither fluid nor vessel: oedema fills nothing else.
        """
        surface = self.core_distance(points)
        core = brain.share(surface) * brain.share(0.5 - brain.ventricle) * self._same_side(brain)
        rim = self.rim_mm(points, surface)
        inner = brain.share(surface + rim)
        bright = np.minimum(core, 1 - inner)
        dead = np.minimum(inner, brain.share(surface + np.maximum(rim, 0) + 2.5)) * self.plan.enhances
        patchy = self._patchy(points, surface)
        late = self.oedema_time(points) - self.plan.reach
        swollen = brain.share(late) * solid
        label = np.where(swollen > 0.5, EDEMA, 0)
        label = np.where(core > 0.5, np.where(inner > 0.5, CORE, ENHANCING), label).astype(np.uint8)
        wet = swollen * self._wetness(points, late)
        layers = [("oedema", wet), ("non-enhancing", core), ("necrosis", core * dead * patchy * self.plan.fluid)]
        return [*layers, ("enhancing", bright * patchy * self.plan.uptake)], label

    def _patchy(self, points: NDArray, surface: NDArray) -> NDArray[np.float32]:
        """How fully the tissues of the core show (n,), between a half and all."""
        full = np.ones(points.shape[1], np.float32)
        near = surface < 3
        full[near] = np.clip(0.85 + 0.2 * self.head.wander("patchy core", points[:, near], 8), 0.5, 1)
        return full

    def _same_side(self, brain: Brain) -> NDArray[np.float32]:
        """Share (n,) of each voxel that the core can reach: it crosses the midline through the callosum alone."""
        side = np.sign(self.centre[0])
        beyond = np.minimum(0.8 - side * brain.points[0], brain.callosum)
        return brain.share(beyond) * brain.share(0.8 - brain.fissure)

    def _wetness(self, points: NDArray, late: NDArray) -> NDArray[np.float32]:
        """How much of the tissue's signal is oedema: most near the core, little at the end of its reach."""
        wet = np.clip(0.45 - 0.6 * late / self.plan.reach, 0.3, 1).astype(np.float32)
        near = late < 3
        wet[near] += 0.12 * self.head.wander("wetness", points[:, near], 12)
        return np.clip(wet * self.plan.wet, 0.2, 1)
