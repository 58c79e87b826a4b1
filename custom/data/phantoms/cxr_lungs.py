"""Both lungs along the rays: how much air there is at every sample, before and after disease."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates

from .cxr_chest import Chest
from .cxr_heart import mediastinum
from .cxr_rays import Rays
from .shapes import Solid, ellipsoid

TISSUE = 0.27  # density of inflated lung, as a share of soft tissue


class Lungs:
    """The air in the chest on the rays' grid (U, Y, V).

    `wall` is the distance to the rib cage and `above` the height over the diaphragm, mm; `space` is the share of each
    sample that a lung takes, `filled` the share of its air that something else has replaced (negative where there is
    more air than in healthy lung), `gas` the share in which there is air but no lung, `free` gas outside the lungs.
    """

    def __init__(self, chest: Chest, rays: Rays) -> None:
        self.chest, self.rays = chest, rays
        self.edge = max(2.0, float(rays.axes[0][1] - rays.axes[0][0]))
        self.wall = chest.wall(rays.points)
        self.above = chest.diaphragm(rays.points)
        outside = np.maximum(np.maximum(self.wall, -0.8 * self.above), -mediastinum(chest, rays))
        self.space = self.inside(outside)
        self.filled, self.gas, self.free = (np.zeros_like(self.space) for _ in range(3))
        self.tissue = float(np.clip(TISSUE - 0.12 * chest.ill["Emphysema"] - 0.02 * chest.breath, 0.12, 0.4))

    def inside(self, distance: NDArray) -> NDArray[np.float32]:
        """The share of each sample in which a distance (U, Y, V) is negative, without steps along the ray."""
        slope = np.empty_like(distance)
        slope[:, 1:-1] = np.abs(distance[:, 2:] - distance[:, :-2]) / 2
        slope[:, 0], slope[:, -1] = slope[:, 1], slope[:, -2]
        return np.clip(0.5 - distance / np.maximum(slope, self.edge), 0, 1)

    def half(self, side: int) -> NDArray[np.bool_]:
        """Where (U, Y, V) is nearer to one lung than to the other."""
        return side * self.rays.points[0] > 0

    def fill(self, share: ArrayLike, box: tuple = ()) -> None:
        """Replace a share of the air in a box of samples, or add to it where the share is negative."""
        self.filled[box] = 1 - (1 - self.filled[box]) * (1 - share)

    def blob(
        self, centre: ArrayLike, radii: ArrayLike, name: str, rough: float = 0.0, soft: float = 0.0, scale: float = 14
    ) -> tuple[Solid, NDArray[np.float32]]:
        """An ellipsoid with a surface that wanders by `rough` mm and an edge `soft` mm wide, and its share (box)."""
        solid = ellipsoid(self.rays, centre, radii, power=2, reach=2 * rough + soft)
        if not solid.distance.size:  # outside the image
            return solid, solid.distance
        if rough:
            solid = solid.roughen(self.rays, self.chest.visit.patient.noise(f"cxr {name}", scale), rough)
        if min(solid.distance.shape) < 3:
            return solid, np.clip(0.5 - solid.distance / max(soft, self.edge, self.rays.depth_mm), 0, 1)
        return solid, self.inside(solid.distance) if soft < self.edge else np.clip(0.5 - solid.distance / soft, 0, 1)

    @property
    def air(self) -> NDArray[np.float32]:
        """Air as a share of each sample: what it lacks of soft tissue."""
        lung = self.space * (1 - self.tissue) * (1 - self.filled)
        return np.clip(np.maximum(lung, self.space * self.gas), 0, 1) + self.free

    def at(self, field: NDArray, points: NDArray) -> NDArray:
        """Values (n,) of a field (U, Y, V) at anatomy points (n, 3)."""
        return map_coordinates(field, self.rays.indices(points), order=1, mode="constant", prefilter=False)
