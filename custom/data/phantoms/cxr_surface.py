"""What surrounds the chest, as thickness on the film (H, W): trunk, neck, arms, breasts, and folds of skin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import SIDES, Chest
from .cxr_rays import Film
from .shapes import mm

FAT_MM = 22.0  # under the skin of an average patient


def add_body(film: Film, chest: Chest) -> None:
    """Add everything outside the rib cage."""
    x, z = plane(film, chest)
    parts = [trunk(chest, x, z), neck(chest, x, z), *(arm(chest, side, x, z) for side in SIDES)]
    thickness = np.sum([part**6 for part in parts], axis=0) ** (1 / 6)  # a smooth maximum
    thickness += breasts(chest, x, z) * (thickness > 0) + folds(chest, x, z) * (thickness > 30)
    film.total += (thickness * chest.size).astype(np.float32)


def plane(film: Film, chest: Chest) -> tuple[NDArray, NDArray]:
    """Anatomy x and z (H, W) of the pixels, in the plane of the chest's centre, tilted with the patient."""
    rays = film.rays
    x, z = np.meshgrid(film.x - rays.shift[0], film.z - rays.shift[2])
    across, along = rays.pose[0, 0], rays.pose[2, 0]
    return (across * x + along * z) / chest.size, (across * z - along * x) / chest.size


def trunk(chest: Chest, x: NDArray, z: NDArray) -> NDArray:
    """Chord of the trunk from the shoulders down, mm."""
    fat = FAT_MM * chest.fat
    shoulder = chest.half_width + 16 + fat + 22 / (1 + np.exp((60 - z) / 16))
    slope = np.clip((z - chest.apex + 18) / 70, 0, 1)
    half = np.where(slope > 0, 50 + (shoulder - 50) * (1 - slope) ** 1.7, shoulder)
    depth = chest.half_depth + 6 + 0.6 * fat - 26 * slope - 7 * np.clip(z / 90, 0, 1)
    return 2 * depth * np.clip(1 - (np.abs(x) / half) ** 2.5, 0, None) ** 0.42


def neck(chest: Chest, x: NDArray, z: NDArray) -> NDArray:
    """Chord of the neck, mm."""
    half = 52 + 8 * np.log(chest.fat) + 0.004 * np.clip(chest.apex + 60 - z, 0, None) ** 2
    return 2 * 54 * np.sqrt(np.clip(1 - (x / half) ** 2, 0, None)) * np.clip((z - chest.apex + 30) / 30, 0, 1)


def arm(chest: Chest, side: int, x: NDArray, z: NDArray) -> NDArray:
    """Chord of a shoulder and upper arm, mm: beside the trunk in bed, away from it when standing."""
    visit = chest.visit
    start = mm(side * (chest.half_width + 34), 0, chest.apex - 34)
    away = visit.normal(f"arm {side}", 12) + (22 if visit.portable else 62)
    end = start + mm(side * away, 0, -190)
    along = end - start
    where = np.clip(((x - start[0]) * along[0] + (z - start[2]) * along[2]) / (along @ along), 0, 1)
    gap = np.hypot(x - start[0] - where * along[0], z - start[2] - where * along[2])
    radius = (42 + 9 * chest.fat) * (1 - 0.2 * where)
    return 2 * np.sqrt(np.clip(radius**2 - gap**2, 0, None))


def breasts(chest: Chest, x: NDArray, z: NDArray) -> NDArray:
    """Thickness of both breasts, or of the muscles of the chest; one is sometimes missing. With nipples."""
    patient = chest.visit.patient
    rng = patient.rng("cxr breasts")
    size = np.exp(0.25 * rng.standard_normal()) * chest.fat**0.4
    high, missing = rng.uniform(-62, -30), rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 1, -1)) * patient.female
    total = np.zeros_like(x)
    for side in SIDES:
        dx, dz = side * x - 78, z - high
        if not patient.female:
            total += muscle(dx, z)
        elif side != missing:
            total += breast(dx, dz, size)
        nipple = np.hypot(dx - 4, dz + 14) / (4.2 + 0.8 * size)
        total += nipple_mm(chest) * np.clip(1.3 - nipple, 0, 0.6) / 0.6
    return total


def breast(dx: NDArray, dz: NDArray, size: float) -> NDArray:
    """Thickness of a breast at offsets from its centre, outwards and up; its lower edge is the sharper one."""
    level = (dx / (54 * min(size, 1.25))) ** 2 + np.where(dz < 0, dz / (40 * size), dz / (75 * size)) ** 2
    return 40 * size * np.sqrt(np.clip(1 - level, 0, None)) * np.clip((dx + 74) / 50, 0, 1)


def muscle(dx: NDArray, z: NDArray) -> NDArray:
    """Thickness of a muscle of the chest, which runs up to the arm."""
    level = (dx / 66) ** 2 + ((z - 25 - 0.3 * dx) / 52) ** 2
    return 13 * np.clip(1 - level, 0, None) ** 0.7


def nipple_mm(chest: Chest) -> float:
    """Thickness of a nipple's shadow, which looks like a nodule; most cannot be seen."""
    return 9.0 if chest.visit.uniform("nipples") < 0.2 else 1.0


def folds(chest: Chest, x: NDArray, z: NDArray) -> NDArray:
    """A fold of skin beside a patient in bed: an edge that looks like a pleural line."""
    visit = chest.visit
    if not visit.portable or visit.uniform("fold") > 0.3:
        return np.zeros_like(x)
    side = 1 if visit.uniform("fold side") < 0.5 else -1
    edge = side * x - visit.uniform("fold place", 70, 112) - 0.25 * (z - 20) - 0.0012 * (z - 20) ** 2
    return 7.0 * np.clip(edge / 3, 0, 1) * np.exp(-np.clip(edge, 0, None) / 28)
