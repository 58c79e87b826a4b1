"""Ribs, clavicles, shoulder blades, arms and spine: hollow tubes and plates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import SIDES, Chest
from .cxr_rays import Film, Tubes, curve
from .shapes import mm

CORTEX = 1.9  # attenuation of compact bone above that of soft tissue
MARROW = 0.4
RIBS = 11
REACH = (2.55, 2.55, 2.5, 2.5, 2.5, 2.45, 2.4, 2.3, 1.95, 1.55, 1.1)  # how far round each rib goes, rad


def hollow(course: NDArray, radius: float, cortex: float = 1.0, strength: float = 1.0) -> Tubes:
    """A tube of bone with a wall of `cortex` mm."""
    shell = curve(course, radius, strength * CORTEX)
    core = Tubes(shell.points, shell.radius - cortex, shell.length, shell.weight * (MARROW / CORTEX - 1))
    return Tubes.join([shell, core])


def flat(tubes: Tubes, chest: Chest) -> Tubes:
    """Ribs seen along their course at the side of the chest: they are flat, a round tube would look like a bead."""
    turned = np.clip(np.abs(tubes.points[:, 0]) / chest.half_width, 0, 1) ** 8
    return tubes.weighted(1 - 0.5 * turned)


def rib_course(chest: Chest, number: int, side: int) -> NDArray:
    """Points (n, 3) along rib `number`, from the spine round to the front."""
    patient = chest.visit.patient
    turn = np.linspace(0, REACH[number], 24)
    pitch = (chest.apex + 112) / 10.3
    back = chest.apex - 12 - pitch * number + patient.normal(f"rib {number} {side}", 1.8)
    drop = (38 + 11 * min(number, 6) - 3 * max(number - 6, 0)) * (1 + patient.normal("rib slope", 0.15))
    round_ = (1 - np.cos(turn)) / 2
    z = back + 7 * np.sin(np.clip(turn * 2.2, 0, np.pi)) - drop * round_**1.15
    _, outer, depth, front = chest.profile(z)
    outer, depth = outer + 4.5, depth + 4
    x = side * (outer * np.sin(turn) ** 0.8 + 20 * np.exp(-turn * 6)) + chest.spine(z)
    return np.stack([x, front - depth * np.cos(turn), z], axis=1)


def ribs(chest: Chest) -> list[Tubes]:
    """Both sides of the rib cage; in some an old fracture or a calcified first cartilage, which look like nodules."""
    patient = chest.visit.patient
    strength = float(np.exp(patient.normal("bone", 0.18) - 0.08 * patient.latents["age"]))
    radius, rng = 5.6 + patient.normal("rib size", 0.4), patient.rng("cxr rib lumps")
    found = []
    for number in range(RIBS):
        for side in SIDES:
            course = rib_course(chest, number, side)
            found.append(flat(hollow(course, radius * (0.8 if number == 0 else 1.0), 0.9, strength), chest))
            if rng.random() < (0.3 if number == 0 else 0.02):
                place = course[-1 if number == 0 else int(rng.integers(5, 20))]
                found.append(curve([place - mm(3, 0, 1), place + mm(3, 0, 1)], 7.0, 0.6 * strength))
    return found


def clavicles(chest: Chest) -> list[Tubes]:
    """From the top of the sternum to the shoulder, S-shaped; arms held high raise the outer ends."""
    raised = chest.visit.normal("clavicle", 6) - 6 * chest.visit.portable
    top, wide = chest.apex - 128, chest.half_width / 131
    found = []
    for side in SIDES:
        course = [(13, 58, 86), (40, 66, 92 + raised * 0.3), (80, 54, 104 + raised * 0.7), (118, 25, 112 + raised)]
        course = np.array([*course, (150, 6, 113 + raised)]) * mm(side * wide, 1, 1) + mm(0, 0, top)
        found.append(hollow(course, 6.0, 1.1, 1.1))
    return found


def blade(chest: Chest, side: int) -> tuple[NDArray, list[Tubes]]:
    """The corners (3, 3) of a shoulder blade and its borders, with the head and shaft of the arm's bone."""
    visit = chest.visit
    out = chest.half_width - 131 + visit.normal(f"blade {side}", 6) + (4 if visit.portable else 22)
    corners = np.array([(70, -76, 92), (104, -90, -34), (140, -46, 92)]) + mm(out, 0, chest.apex - 128)
    joint = corners[2] + mm(20, 12, 4)
    arm = np.array([joint, joint + mm(8, 0, -30), joint + mm(14 if visit.portable else 50, 0, -190)])
    parts = [
        hollow(corners[[0, 1]] * mm(side, 1, 1), 2.4, 1.0, 0.8),
        hollow(corners[[1, 2]] * mm(side, 1, 1), 4.2, 1.2, 0.9),
        hollow((corners[[0, 2]] + [mm(0, 0, -10), mm(10, -6, 18)]) * mm(side, 1, 1), 4.0, 1.0, 0.7),
        hollow(np.stack([joint - mm(0, 0, 4), joint + mm(1, 0, 4)]) * mm(side, 1, 1), 22.0, 1.2, 0.8),
        hollow(arm * mm(side, 1, 1), 11.0, 3.0, 0.8),
    ]
    return corners * mm(side, 1, 1), parts


def add_bones(film: Film, chest: Chest) -> None:
    """Add all bones to the film."""
    tubes = ribs(chest) + clavicles(chest)
    for side in SIDES:
        corners, parts = blade(chest, side)
        add_plate(film, corners, 5.5 * chest.size)
        tubes += parts
    film.add_tubes(Tubes.join(tubes))
    add_spine(film, chest)


def add_plate(film: Film, corners: NDArray, thickness: float) -> None:
    """Add a flat triangle of bone with `corners` (3, 3) in anatomy mm."""
    row, column, _ = film.pixels(corners)
    points = np.stack([column, row], axis=1)
    x, y = np.meshgrid(np.arange(film.shape[1]), np.arange(film.shape[0]))
    inside = np.full(film.shape, np.inf)
    turn = np.sign(np.cross(np.append(points[1] - points[0], 0), np.append(points[2] - points[0], 0))[2])
    for start, end in zip(points, np.roll(points, -1, axis=0), strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        inside = np.minimum(inside, turn * (along[0] * (y - start[1]) - along[1] * (x - start[0])))
    film.total += (CORTEX * 0.6 * thickness * np.clip(inside * film.pixel / 8, 0, 1)).astype(np.float32)


def add_spine(film: Film, chest: Chest) -> None:
    """Add the vertebrae, brighter at their ends, at the pedicles and at the spinous processes."""
    rays = film.rays
    x, z = np.meshgrid(film.x - rays.shift[0], film.z - rays.shift[2])
    z = (rays.pose[0, 0] * z - rays.pose[2, 0] * x) / chest.size
    depth = rays.locate(np.stack([chest.spine(z[:, 0]), np.full(len(z), -62.0), z[:, 0]], axis=1))[:, 0]
    x = (x - depth[:, None] + rays.shift[0]) / chest.size
    phase = (z - 4) / 22.5
    phase = phase - np.floor(phase) - 0.5  # -0.5..0.5 in each vertebra
    width = 14.5 + 3 * (2 * phase) ** 2 + 0.02 * (60 - z)
    body = np.clip((width - np.abs(x)) / 4 + 0.5, 0, 1) * np.clip((0.43 - np.abs(phase)) / 0.06 + 0.5, 0, 1)
    plates = body * np.exp(-(((np.abs(phase) - 0.4) / 0.06) ** 2))
    pedicle = np.exp(-(((np.abs(x) - 0.66 * width) / 2.4) ** 2) - ((phase - 0.12) / 0.16) ** 2)
    process = np.exp(-(((x - 0.5) / 2.2) ** 2) - ((phase + 0.3) / 0.18) ** 2)
    film.total += (2.5 * body + 2 * plates + 3 * pedicle + 3 * process).astype(np.float32)
