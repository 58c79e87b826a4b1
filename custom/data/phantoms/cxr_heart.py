"""Heart, great vessels and the other soft parts between the lungs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import Chest
from .cxr_rays import Rays
from .shapes import Solid, ellipsoid, mm, tube


def heart_scale(chest: Chest) -> float:
    """Size of the heart as a factor: it varies in the healthy, too, and grows with the severity of cardiomegaly."""
    visit = chest.visit
    grown = 0.20 * min(1.0, 2.2 * visit.severity("Cardiomegaly")) ** 0.7 + 0.14 * visit.severity("Cardiomegaly")
    narrow = -0.16 * chest.ill["Emphysema"]
    return float(np.exp(visit.patient.normal("heart", 0.055) - 0.02 * chest.breath + grown + narrow))


def heart_parts(chest: Chest, rays: Rays) -> list[Solid]:
    """The ventricles and the right atrium."""
    scale, patient = heart_scale(chest), chest.visit.patient
    low = (chest.dome[1] + chest.dome[-1]) / 2 - 4
    lie = patient.normal("heart lie", 0.12) - 0.1 * chest.breath  # upright in a long chest
    radii = mm(60, 50, 39) * scale * np.exp(0.04 * np.array([patient.normal(f"heart {i}") for i in range(3)]))
    left = mm(-25 - 20 * (scale - 1) + chest.shift, 27, low + 33 * scale)
    right = mm(17 + 10 * (scale - 1) + chest.shift, 20, low + 36 * scale)
    base = mm(-8 + chest.shift, 12, low + 64 * scale)
    return [
        ellipsoid(rays, left, radii, (0, -0.50 - lie, 0), power=2),
        ellipsoid(rays, right, mm(28, 38, 38) * scale, (0, 0.1, 0), power=2),
        ellipsoid(rays, base, mm(29, 32, 32) * scale**0.5, power=2),
    ]


def vessel_parts(chest: Chest, rays: Rays) -> list[Solid]:
    """Aorta, superior vena cava, pulmonary trunk, and the tissue above them."""
    patient, shift = chest.visit.patient, chest.shift
    age = patient.latents["age"]
    knob = 13.5 + 1.3 * age + patient.normal("aorta", 1.0)
    swing = 3 * max(age, 0) + patient.normal("tortuous", 2)
    top = chest.apex - 62 + patient.normal("arch", 5)
    arch = [(14, 18, 20), (17, 16, top - 22), (4, 8, top), (-16, -12, top - 2), (-25 - swing / 2, -34, top - 16)]
    arch += [(-27 - swing, -48, top - 60), (-20, -52, -50), (-12, -50, -140)]
    course = np.array(arch) + mm(shift, 0, 0)
    cava = [(22 + shift, 8, 20), (23 + shift, 6, 60), (18 + shift * 0.5, 2, 112)]
    trunk = [(-12 + shift, 26, 12), (-27 + shift, 12, 32), (-26 + shift, -6, 36)]
    return [
        tube(rays, course, knob * np.array([1.1, 1.1, 1, 1, 0.95, 0.9, 0.85, 0.8])),
        tube(rays, cava, (11, 10, 9)),
        tube(rays, trunk, (15, 14, 10)),
        ellipsoid(rays, (shift * 0.6, 0, 104), mm(25 + patient.normal("upper", 4), 40, 52), power=2),
        ellipsoid(rays, (shift * 0.8, -4, 40), mm(21, 46, 62), power=2),
    ]


def fat_pads(chest: Chest, rays: Rays) -> list[Solid]:
    """Fat in the angle between heart and diaphragm, which some have and which looks like a large heart."""
    pads, scale = [], heart_scale(chest)
    for side in (1, -1):
        amount = chest.visit.patient.normal(f"pad {side}") + 0.5 * np.log(chest.fat)
        if amount > 0.4:
            centre = mm(side * (48 + 12 * (side < 0)) * scale + chest.shift, 52, chest.dome[side] - 4)
            pads.append(ellipsoid(rays, centre, mm(22, 20, 20) * (0.6 + 0.35 * amount), power=2))
    return pads


def mediastinum(chest: Chest, rays: Rays) -> NDArray[np.float32]:
    """Distance to everything between the lungs (U, Y, V), mm, negative inside."""
    distance = np.full(rays.points.shape[1:], 60, np.float32)
    for solid in heart_parts(chest, rays) + vessel_parts(chest, rays) + fat_pads(chest, rays):
        np.minimum(distance[solid.box], solid.distance, out=distance[solid.box])
    return distance
