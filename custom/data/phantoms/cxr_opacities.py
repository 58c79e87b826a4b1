"""Findings that replace air in the lungs: infiltrates, consolidations, masses, collapse, oedema, and scars."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import LEFT, RIGHT, SIDES, Chest, fade
from .cxr_lungs import Lungs
from .shapes import Solid, mm

FISSURE = mm(0, -0.73, -0.68)  # normal of the oblique fissure, into the lower lobe
FISSURE_POINT = mm(0, 0, -12)
MINOR = 2.0  # height of the right lung's horizontal fissure, mm


def sites(chest: Chest, name: str, most: int) -> Iterator[tuple[np.random.Generator, int]]:
    """A random stream and a side for each of 1 to `most` places of a finding; they belong to the image."""
    rng = chest.visit.rng(f"{name} sites")
    side = chest.side(name)
    for place in range(int(rng.integers(1, most + 1))):
        yield rng, side if place == 0 else int(rng.choice(SIDES))


def lobe(lungs: Lungs, solid: Solid, part: int) -> NDArray[np.float32]:
    """Distance (box) to the upper (0), middle (1) or lower (2) lobe in a solid's box."""
    points = lungs.rays.points[(slice(None), *solid.box)]
    behind = np.tensordot(FISSURE, points - FISSURE_POINT[:, None, None, None], 1).astype(np.float32)
    above = points[2] - MINOR
    return (np.maximum(behind, -above), np.maximum(behind, above), -behind)[part]


def infiltration(lungs: Lungs, severity: float) -> None:
    """Patches without a border in one to three regions."""
    chest = lungs.chest
    for number, (rng, side) in enumerate(sites(chest, "Infiltration", 3)):
        centre = chest.place(side, rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.4), rng.uniform(0.1, 0.75))
        radii = rng.uniform(28, 50, 3) * (0.7 + 0.5 * severity)
        solid, share = lungs.blob(centre, radii, f"infiltrate {number}", 7, 30)
        if not share.size:  # outside the image
            continue
        patches = chest.visit.patient.noise(f"cxr patches {number}", 13)(lungs.rays.axes_of(solid.box))
        lungs.fill(fade(severity) * (0.28 + 0.55 * severity) * share * np.clip(0.55 + 0.5 * patches, 0, 1), solid.box)


def pneumonia(lungs: Lungs, severity: float) -> None:
    """A large part of one lobe, up to the fissure."""
    chest = lungs.chest
    rng, side = next(sites(chest, "Pneumonia", 1))
    part = int(rng.choice((0, 1, 2), p=(0.3, 0.2, 0.5)))
    spot = ((-0.1, 0.1, 0.62), (0.0, 0.55, 0.28), (0.0, -0.45, 0.25))[part]
    centre = chest.place(side, *(spot + rng.uniform(-0.2, 0.2, 3) * mm(1, 1, 0.4)))
    solid, share = lungs.blob(centre, rng.uniform(34, 46, 3) * (0.6 + 0.7 * severity), "pneumonia", 6, 16)
    sharp = np.clip(0.5 - lobe(lungs, solid, part) / 5, 0, 1)
    lungs.fill(fade(severity) * (0.52 + 0.42 * severity) * share * sharp, solid.box)


def consolidation(lungs: Lungs, severity: float) -> None:
    """One or two dense regions with a fairly clear border."""
    chest = lungs.chest
    for number, (rng, side) in enumerate(sites(chest, "Consolidation", 2)):
        centre = chest.place(side, rng.uniform(-0.5, 0.4), rng.uniform(-0.6, 0.3), rng.uniform(0.08, 0.6))
        radii = rng.uniform(20, 36, 3) * (0.7 + 0.7 * severity)
        solid, share = lungs.blob(centre, radii, f"consolidation {number}", 6, 12)
        lungs.fill(fade(severity) * (0.62 + 0.33 * severity) * share, solid.box)


def nodule(lungs: Lungs, severity: float) -> None:
    """One to three round shadows of less than 3 cm."""
    focal(lungs, "Nodule", 4.5 * fade(severity) + 8.5 * severity, 3)


def mass(lungs: Lungs, severity: float) -> None:
    """One or two round shadows, the first of more than 3 cm; one in five is a shell."""
    for place, radii in focal(lungs, "Mass", min(15.0, 9 + 90 * severity) + 26 * severity, 2):
        if lungs.chest.visit.patient.uniform("cavity") < 0.2:
            solid, hole = lungs.blob(place, 0.55 * radii, "cavity", 1.5)
            lungs.filled[solid.box] *= 1 - hole


def focal(lungs: Lungs, name: str, radius: float, most: int) -> list[tuple[NDArray, NDArray]]:
    """Round shadows with a mean radius in mm; places belong to the patient, so that follow-ups show them again."""
    rng, found = lungs.chest.visit.patient.rng(f"cxr {name} places"), []
    for number in range(int(rng.integers(1, most + 1))):
        side = int(rng.choice(SIDES))
        centre = lungs.chest.place(side, rng.uniform(-0.4, 0.85), rng.uniform(-0.8, 0.7), rng.uniform(0.2, 0.93))
        size = radius * (1.0 if number == 0 else rng.uniform(0.55, 1.0))
        radii = size * np.exp(rng.normal(0, 0.12, 3))
        solid, share = lungs.blob(centre, radii, f"{name} {number}", 0.09 * size, scale=max(8.0, 0.8 * size))
        lungs.fill(share, solid.box)
        found.append((centre, radii))
    return found


def atelectasis(lungs: Lungs, severity: float) -> None:
    """Plates at the base, or a lobe that has lost its air; the chest's volume loss goes with either."""
    chest = lungs.chest
    rng, side = chest.visit.rng("atelectasis"), chest.collapsed
    if chest.visit.patient.uniform("atelectasis kind") < 0.5:
        for _ in range(int(rng.integers(1, 4))):
            plate(lungs, rng, side, fade(severity) * (0.6 + 0.4 * severity), 1.5 + 3.5 * severity)
        return
    upper = side == RIGHT and rng.random() < 0.3
    centre = chest.place(side, -0.75, -0.2 if upper else -0.5, 0.8 if upper else 0.14)
    radii = mm(40, 48, 34) * (0.65 + 0.6 * severity) if upper else mm(34, 46, 52) * (0.6 + 0.6 * severity)
    solid, share = lungs.blob(centre, radii, "collapse", 3, 5)
    lungs.fill(fade(severity) * (0.6 + 0.35 * severity) * share, solid.box)


def plate(lungs: Lungs, rng: np.random.Generator, side: int, share: float, thickness: float) -> None:
    """A disc of collapsed or scarred lung above the diaphragm, a few mm thick and some cm wide."""
    centre = lungs.chest.place(side, rng.uniform(-0.4, 0.6), rng.uniform(-0.3, 0.5), rng.uniform(0.08, 0.35))
    normal = mm(rng.normal(0, 0.35), rng.normal(0, 0.12), 1.0)
    solid, inside = lungs.blob(centre, (rng.uniform(20, 38), 26, 26), "plate")
    offset = lungs.rays.points[(slice(None), *solid.box)] - centre.astype(np.float32)[:, None, None, None]
    gap = np.abs(np.tensordot(normal / np.linalg.norm(normal), offset, 1)) - thickness / 2
    width = lungs.edge
    lungs.fill(share * inside * np.clip(0.5 - gap / width, 0, min(1.0, 2 * thickness / width)), solid.box)


def oedema(lungs: Lungs, severity: float) -> None:
    """Water around both hila, like wings, less towards the wall, and some at the bases."""
    chest, points = lungs.chest, lungs.rays.points
    wings = np.zeros_like(lungs.space)
    for side in SIDES:
        x, y, z = points - chest.place(side, -0.35, -0.1, 0.42).astype(np.float32)[:, None, None, None]
        wings = np.maximum(wings, np.exp(-((x / 42) ** 2) - (y / 60) ** 2 - (z / 58) ** 2))
    cloud = 1 + 0.3 * chest.visit.patient.noise("cxr oedema", 16)(lungs.rays.axes)
    low = np.exp(-np.clip(lungs.above, 0, None) / 45)
    lungs.fill(np.clip(fade(severity) * (0.16 + 0.6 * severity) * (wings * cloud + 0.3 * low), 0, 0.9))


def emphysema(lungs: Lungs, severity: float) -> None:
    """Bullae in the upper halves; hyperinflation belongs to the chest."""
    rng = lungs.chest.visit.patient.rng("cxr bullae")
    for number in range(int(rng.integers(1, 5))):
        centre = lungs.chest.place(
            int(rng.choice(SIDES)), rng.uniform(-0.2, 0.7), rng.uniform(-0.5, 0.6), rng.uniform(0.5, 0.9)
        )
        solid, share = lungs.blob(centre, rng.uniform(14, 30, 3) * (0.5 + 0.6 * severity), f"bulla {number}", 2)
        lungs.fill(-0.9 * fade(severity) * lungs.tissue / (1 - lungs.tissue) * share, solid.box)
        lungs.gas[solid.box] = np.maximum(lungs.gas[solid.box], 0.6 * fade(severity) * share)


def fibrosis(lungs: Lungs, severity: float) -> None:
    """Haze below the pleura of the bases; its lines are tubes."""
    rim = np.exp(np.minimum(lungs.wall, 0) / 14) * np.exp(-np.clip(lungs.above, 0, None) / 60)
    cloud = np.clip(0.6 + 0.5 * lungs.chest.visit.patient.noise("cxr fibrosis", 12)(lungs.rays.axes), 0, 1)
    lungs.fill(fade(severity) * (0.3 + 0.5 * severity) * rim * cloud)


def scars(lungs: Lungs) -> None:
    """Thin plates that carry no label, in one patient of six."""
    patient = lungs.chest.visit.patient
    rng = patient.rng("cxr old scars")
    if rng.random() < 0.17:
        plate(lungs, rng, int(rng.choice((LEFT, RIGHT))), 0.6, rng.uniform(1.2, 2.6))
