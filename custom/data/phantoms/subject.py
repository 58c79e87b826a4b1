"""What makes one synthetic patient: a few shared latents, and an own random stream for every named structure.

The latents drive everything, so that visible anatomy informs hidden anatomy; the streams are keyed by name, so that
adding a structure or reading one twice changes no other.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from .shapes import EXTENT_MM, Grid, SmoothField, mm

JITTER_MM = (9.0, 9.0, 10.0)  # own displacement of an organ beside what the latents do
WARP_MM = 7.5
WARP_SCALE_MM = 130.0  # four control points across the field of view

# Mean HU in the late arterial and in the portal phase, and the standard deviation between subjects.
CONTRAST: dict[str, tuple[float, float, float]] = {
    "spleen": (125, 118, 12),
    "kidney cortex": (190, 168, 18),
    "kidney medulla": (105, 158, 15),
    "gallbladder": (14, 14, 12),
    "gut wall": (70, 75, 12),
    "liver": (88, 112, 13),
    "aorta": (265, 155, 24),
    "vena cava": (95, 140, 16),
    "portal vein": (115, 162, 15),
    "pancreas": (105, 95, 13),
    "adrenal": (85, 80, 12),
    "muscle": (58, 64, 7),
    "fat": (-102, -102, 5),
    "marrow": (160, 165, 30),
    "lung": (-850, -845, 20),
    "stomach content": (32, 32, 14),
}


@dataclass(frozen=True)
class Latents:
    """Six standard normal numbers, clipped at two, and the contrast phase they imply."""

    size: float
    girth: float
    descent: float
    organs: float
    fat: float
    timing: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Latents:
        return cls(*np.clip(rng.standard_normal(6), -2, 2).tolist())

    @property
    def phase(self) -> float:
        """0 is late arterial, 1 is portal venous."""
        return float(norm.cdf(self.timing))


class Streams:
    """The named random streams of patient `index` of the population `seed`."""

    extent_mm = EXTENT_MM  # how far random fields reach from the origin

    def __init__(self, seed: int, index: int) -> None:
        self.key = (seed, index)

    def rng(self, name: str) -> np.random.Generator:
        """The random stream of one structure."""
        return np.random.default_rng([*self.key, zlib.crc32(name.encode())])

    def angles(self, name: str, spread: float = 0.2) -> NDArray:
        """Rotation jitter (3,) in rad."""
        return spread * np.clip(self.rng(name + " angles").standard_normal(3), -2, 2)

    def noise(self, name: str, scale: float) -> SmoothField:
        """A smooth random field of its own, with features of about `scale` mm."""
        return SmoothField(self.rng(name + " noise"), scale, self.extent_mm)


class Subject(Streams):
    """An abdomen: patient `index` of the population `seed`."""

    def __init__(self, seed: int, index: int) -> None:
        super().__init__(seed, index)
        self.latents = Latents.draw(self.rng("latents"))

    def hu(self, name: str) -> float:
        """Mean HU of a tissue in this patient and phase."""
        arterial, portal, spread = CONTRAST[name]
        phase = self.latents.phase
        return arterial + (portal - arterial) * phase + spread * float(self.rng(name + " hu").standard_normal())

    def place(self, name: str, atlas: ArrayLike, follow: float = 1.0, jitter: float = 1.0) -> NDArray:
        """An organ's centre in anatomy mm: atlas position, `follow` times the shared shifts, and its own jitter."""
        own = jitter * np.asarray(JITTER_MM) * np.clip(self.rng(name + " place").standard_normal(3), -2, 2)
        return np.asarray(atlas, float) + follow * self.visceral_shift + own

    @cached_property
    def visceral_shift(self) -> NDArray:
        """How far all abdominal organs sit from the atlas: breathing and descent move them along the body."""
        shift = np.array([5.0, 5.0, 4.0]) * self.rng("visceral shift").standard_normal(3)
        return shift + mm(0, 0, -11 * self.latents.descent)

    def scale(self, name: str, spread: float = 0.14) -> NDArray:
        """Log-normal factors (3,) on an organ's radii: shared, own, and a little for each axis."""
        rng = self.rng(name + " scale")
        common = 0.035 * self.latents.organs + 0.7 * spread * float(np.clip(rng.standard_normal(), -2, 2))
        return np.exp(common + 0.5 * spread * np.clip(rng.standard_normal(3), -2, 2))

    def grid(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Grid:
        """The scan's voxels in this patient's anatomy: size, position on the table, and a smooth warp."""
        shift = np.array([6.0, 5.0, 14.0]) * np.clip(self.rng("table").standard_normal(3), -2, 2)
        warp = tuple(self.noise(f"warp {axis}", WARP_SCALE_MM) for axis in "xyz")
        return Grid.regular(
            shape, spacing, size=1.08 + 0.035 * self.latents.size, shift=shift, warp=warp, warp_mm=WARP_MM
        )
