"""Findings of the pleura and beside the lungs: effusion, pneumothorax, thickening, and a hernia behind the heart."""

from __future__ import annotations

import numpy as np

from .cxr_chest import RIGHT, SIDES, collapse, fade
from .cxr_lungs import Lungs
from .shapes import mm


def effusion(lungs: Lungs, severity: float) -> None:
    """Fluid that fills the angle and climbs along the wall, or lies behind the lung of a patient in bed."""
    chest, visit = lungs.chest, lungs.chest.visit
    both = visit.uniform("effusion both") < 0.25 + 0.5 * (visit.severity("Edema") > 0)
    for side in SIDES:
        amount = severity * (1.0 if side == chest.side("Effusion") else 0.6 * both)
        if amount == 0:
            continue
        where = lungs.half(side)
        deep = np.minimum(lungs.wall, 0)
        if visit.portable and visit.uniform("lying") < 0.6:
            back = -chest.half_depth + 12 * fade(amount) + 62 * amount
            fluid = lungs.inside(lungs.rays.points[1] - back - 8 * fade(amount) * np.exp(deep / 10))
        else:
            level = chest.dome[side] - 44 + 20 * chest.ill["Emphysema"] + 105 * amount**1.15
            fluid = lungs.inside(lungs.rays.points[2] - level - 30 * fade(amount) * np.exp(deep / 20))
        lungs.fill(fluid * where)
        lungs.gas *= 1 - fluid * where


def pneumothorax(lungs: Lungs, severity: float) -> None:
    """Air without lung between the wall and a pleural line, thickest at the apex; the lung inside is denser."""
    chest = lungs.chest
    where = lungs.half(chest.side("Pneumothorax"))
    root, scale = collapse(chest, severity)
    middle = root.astype(np.float32)[:, None, None, None]
    surface = np.float32(scale) * chest.wall(middle + (lungs.rays.points - middle) / np.float32(scale))
    surface += 1.5 * chest.visit.patient.noise("cxr pleura", 45)(lungs.rays.axes)
    gas = lungs.inside(-surface) * where
    line = (lungs.inside(surface - 0.9) - lungs.inside(surface + 0.9)) * where
    lungs.fill(0.25 * severity * (1 - gas) * where)
    lungs.filled *= 1 - gas
    lungs.fill(line)
    lungs.gas = np.maximum(lungs.gas, gas * (1 - line))


def thickening(lungs: Lungs, severity: float) -> None:
    """A cap on one apex or both, or a band along the wall of a base."""
    chest, patient = lungs.chest, lungs.chest.visit.patient
    rng = patient.rng("cxr thickening")
    apical, both = rng.random() < 0.6, rng.random() < 0.5
    z, noise = lungs.rays.points[2], patient.noise("cxr pleural", 18)(lungs.rays.axes)
    level = rng.uniform(-80, -30)
    place = np.clip((z - chest.apex + 42) / 36, 0, 1) if apical else np.exp(-(((z - level) / 42) ** 2))
    for side in SIDES:
        if side != chest.side("Pleural_Thickening") and not both:
            continue
        width = (5 * fade(severity) + 16 * severity) * place * np.clip(1 + 0.35 * noise, 0.2, 2) - 1.0
        lungs.fill(lungs.inside(-lungs.wall - width) * (place > 0.02) * lungs.half(side))


def hernia(lungs: Lungs, severity: float) -> None:
    """Stomach behind the heart: a round shadow with, in most, gas over a level of fluid."""
    chest, patient = lungs.chest, lungs.chest.visit.patient
    low = min(chest.dome.values())
    radii = mm(30, 28, 29) * (0.3 + 0.3 * fade(severity) + 0.7 * severity) * np.exp(patient.normal("hernia size", 0.1))
    centre = mm(patient.normal("hernia", 9) - 4, -34, low + 0.8 * radii[2] + 6)
    solid, share = lungs.blob(centre, radii, "hernia", 2)
    lungs.fill(share, solid.box)
    if patient.uniform("hernia gas") < 0.3:
        return
    inner, hollow = lungs.blob(centre, radii - 4, "hernia inside", 1.5)
    height = lungs.rays.points[2][inner.box] - centre[2] - radii[2] * patient.uniform("hernia level", -0.2, 0.4)
    gas = hollow * np.clip(0.5 + height / lungs.edge, 0, 1)
    lungs.free[inner.box] = np.maximum(lungs.free[inner.box], gas)


def bowel_gas(lungs: Lungs) -> None:
    """Gas in the stomach under the left dome of the diaphragm and, in some, in the colon."""
    chest = lungs.chest
    rng = chest.visit.rng("bowel gas")
    spots = [(-58, 10, 0.6)] + [(rng.uniform(-110, 100), 40, 0.3)] * int(rng.integers(0, 3))
    for number, (x, y, chance) in enumerate(spots):
        if rng.random() > chance:
            continue
        radii = mm(rng.uniform(12, 36), rng.uniform(15, 30), rng.uniform(6, 17))
        top = chest.dome[RIGHT if x > 0 else -1] - 9 - radii[2] - 21 * chest.arch * ((abs(x) - 68) / 62) ** 2
        solid, share = lungs.blob(mm(x, y, top - rng.uniform(0, 30) * (number > 0)), radii, f"bowel {number}", 2.5)
        below = np.clip(0.5 - (lungs.above[solid.box] + 4) / lungs.edge, 0, 1)
        lungs.free[solid.box] = np.maximum(lungs.free[solid.box], share * below)
