"""The chest of one image: rib cage, diaphragm and mediastinum in millimetres, moved by breath, pose and disease.

Axes run to the patient's right, front and head; the origin lies in the middle of the chest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cxr_cases import Visit
from .cxr_rays import Rays
from .shapes import mm, rotation_matrix

RIGHT, LEFT = 1, -1
SIDES = (RIGHT, LEFT)
BASE = -60.0  # level below which the rib cage no longer widens, mm
TURN = (0.035, 0.022, 0.045)  # standard deviation of leaning, tilt and rotation, rad, upright; in bed they double


class Chest:
    """Numbers and surfaces that follow from a patient and an image. Points are (3, ...) in anatomy mm."""

    def __init__(self, visit: Visit) -> None:
        self.visit, patient = visit, visit.patient
        self.ill = {name: visit.severity(name) for name in ("Emphysema", "Fibrosis", "Atelectasis", "Pneumothorax")}
        self.collapsed = RIGHT if patient.uniform("collapsed side") < 0.5 else LEFT
        self.size = float(np.exp((-0.05 if patient.female else 0.02) + patient.normal("size", 0.045)))
        self.fat = float(np.exp(patient.normal("fat", 0.3)))
        self.breath = visit.normal("breath", 0.8) - (1.1 if visit.portable else 0.0)
        self.half_width = 131 + patient.normal("width", 6) + 3 * self.breath
        self.half_depth = 84 + patient.normal("depth", 6) + 18 * self.ill["Emphysema"] + 2 * self.breath
        self.apex = 128 + patient.normal("apex", 5)
        self.curve = patient.normal("scoliosis", 5), patient.uniform("scoliosis phase", 0, 6.3)
        self.shift = self._mediastinal_shift()

    def _mediastinal_shift(self) -> float:
        """Movement of the mediastinum in mm: towards lost volume, away from trapped air."""
        own = self.visit.patient.normal("mediastinum", 3)
        pulled = 11 * self.ill["Atelectasis"] * self.collapsed * (self.visit.patient.uniform("pull") > 0.3)
        pushed = -16 * np.clip(self.ill["Pneumothorax"] - 0.55, 0, None) * self.side("Pneumothorax")
        return float(own + pulled + pushed)

    def side(self, name: str) -> int:
        """The side that something of this patient is on."""
        return RIGHT if self.visit.patient.uniform(f"{name} side") < 0.55 else LEFT

    def rays(self, shape: Sequence[int], pixel: float) -> Rays:
        """Sample points for a plane of `shape` pixels of `pixel` mm and 30 depths or, for small planes, 24."""
        depths = 30 if min(shape) > 48 else 24
        axes = tuple(
            (np.arange(n) - (n - 1) / 2) * step
            for n, step in zip((shape[1], depths, shape[0]), (pixel, 222 / depths, pixel), strict=True)
        )
        portable, visit = self.visit.portable, self.visit
        angles = [visit.normal(f"turn {i}", spread * (1 + portable)) for i, spread in enumerate(TURN)]
        source = visit.uniform("distance", 950, 1250) if portable else -visit.uniform("distance", 1700, 1900)
        shift = mm(visit.normal("off centre", 8), 0, visit.normal("centre height", 11) + (16 if portable else 0))
        return Rays(axes=axes, size=self.size, shift=shift, source=source, pose=rotation_matrix(angles))

    def spine(self, z: ArrayLike) -> NDArray:
        """Sideways position of the spine at heights `z`, mm."""
        amount, phase = self.curve
        return amount * np.sin(np.asarray(z) / 90 + phase)

    def profile(self, z: ArrayLike) -> tuple[NDArray, NDArray, NDArray, NDArray]:
        """At heights `z`: inner and outer half-width of the lungs, half-depth, and how far their centre is in front."""
        rise = np.clip((np.asarray(z) - BASE) / (self.apex - BASE), 0, 1)
        width = np.sqrt(1.0004 - rise**2.25)
        inner, outer = 17 + 19 * (1 - width), 40 + (self.half_width - 40) * width
        return inner, outer, self.half_depth * (0.4 + 0.6 * width), -14 * rise

    def wall(self, points: NDArray) -> NDArray[np.float32]:
        """Distance to the inside of the rib cage, negative inside either lung's space."""
        x, y, z = points
        inner, outer, depth, front = self.profile(z)
        x = np.abs(x - self.spine(z)) - (inner + outer) / 2
        y = y - front
        level = np.sqrt((x / ((outer - inner) / 2)) ** 2 + (y / depth) ** 2) + 1e-3
        round_ = np.sqrt(x * x + y * y) * (1 - 1 / level)
        return np.maximum(round_, z - self.apex).astype(np.float32)

    @cached_property
    def dome(self) -> dict[int, float]:
        """Height of each half of the diaphragm, mm."""
        patient, heights = self.visit.patient, {}
        for side in SIDES:
            height = (
                -78 - 10 * (side == LEFT) - 9 * self.breath - 36 * self.ill["Emphysema"] + 14 * self.ill["Fibrosis"]
            )
            height += patient.normal(f"dome {side}", 5) + 24 * self.ill["Atelectasis"] * (side == self.collapsed)
            heights[side] = height
        return heights

    @property
    def arch(self) -> float:
        """How far the diaphragm's domes rise, as a factor; trapped air flattens them."""
        return 1 - 0.75 * self.ill["Emphysema"]

    def diaphragm(self, points: NDArray) -> NDArray[np.float32]:
        """Height above the diaphragm, mm, negative below it."""
        x, y, z = points
        x = x - self.shift * 0.3
        top = np.where(x > 0, np.float32(self.dome[RIGHT]), np.float32(self.dome[LEFT]))
        bulge = ((np.abs(x) - 68) / 62) ** 2 + ((y - 18) / 78) ** 2
        return (z - top + self.arch * (21 * bulge + 13 * bulge * bulge)).astype(np.float32)

    def place(self, side: int, across: float, front: float, up: float) -> NDArray:
        """A point (3,) in a lung: from the inner to the outer wall and from back to front -1..1, base to apex 0..1."""
        low = self.dome[side] - 12
        z = low + up * (self.apex - 6 - low)
        inner, outer, depth, centre = (float(value) for value in self.profile(z))
        x = side * ((inner + outer) / 2 + across * (outer - inner) / 2) + float(self.spine(z))
        return mm(x, centre + front * depth, z)


def fade(severity: float) -> float:
    """0 to 1 as a finding sets in: what is barely there is barely drawn, and most of it carries no label."""
    return min(1.0, severity / 0.15)


def collapse(chest: Chest, severity: float) -> tuple[NDArray, float]:
    """The point (3,) towards which a lung with a pneumothorax shrinks, and the factor by which it does."""
    return chest.place(chest.side("Pneumothorax"), -0.6, 0.0, 0.25), 1 - 0.5 * severity
