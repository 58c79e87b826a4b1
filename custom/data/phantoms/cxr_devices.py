"""What is on and in a patient besides the patient: lines, tubes, leads, pacemakers, wires. None carries a label.

The sick have more of them, and most patients with a drained pneumothorax have a tube: a shortcut, as in real images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import SIDES, Chest
from .cxr_rays import Tubes, curve
from .shapes import mm

METAL = 9.0  # attenuation of steel wire above that of soft tissue, as far as a film shows it
PLASTIC = 2.2  # of catheters with barium
SKIN = 108.0  # how far in front of the chest's centre leads lie, mm


def devices(chest: Chest) -> list[Tubes]:
    """Everything that this patient wears in this image."""
    visit, latents = chest.visit, chest.visit.patient.latents
    sick = 0.12 * latents["frailty"] + (0.25 if visit.portable else -0.05)
    operated = latents["surgery"]
    chances = [
        (leads, 0.14 + sick, "leads"),
        (central_line, 0.10 + sick, "line"),
        (breathing_tube, 0.6 * sick - 0.03, "airway"),
        (stomach_tube, 0.05 + 0.6 * sick, "stomach"),
    ]
    found = [part for make, chance, name in chances if visit.uniform(f"has {name}") < chance for part in make(chest)]
    drained = 0.5 * (visit.severity("Pneumothorax") > 0.3) + 0.12 * (visit.severity("Effusion") > 0.4) + 0.01
    found += drain(chest) if visit.uniform("has drain") < drained else []
    found += sternal_wires(chest) if operated > 1.15 else []
    found += clips(chest) if operated > 0.9 else []
    found += pacemaker(chest) if visit.patient.normal("pacemaker") + 0.5 * latents["failure"] > 1.75 else []
    return found


def leads(chest: Chest) -> list[Tubes]:
    """Electrodes on the skin and the wires that leave the image."""
    rng, parts = chest.visit.rng("leads"), []
    for x, z in ((110, 70), (-110, 68), (-95, -70), (95, -85))[: int(rng.integers(2, 5))]:
        spot = mm(x + rng.normal(0, 14), SKIN, z + rng.normal(0, 16))
        parts.append(curve([spot - mm(1, 0, 0), spot + mm(1, 0, 0)], 4.0, 1.3))
        way = [spot]
        for _ in range(3):
            way.append(way[-1] + mm(rng.normal(0, 28), 0, -rng.uniform(20, 75)))
        parts.append(curve([*way, mm(way[-1][0] + rng.normal(0, 30), SKIN, -230)], 0.7, 0.5 * METAL))
    return parts


def central_line(chest: Chest) -> list[Tubes]:
    """A catheter from the neck, from below a clavicle or from an arm to the upper caval vein."""
    rng, shift = chest.visit.rng("line"), chest.shift
    start = (
        ((32, 20, 190), (38, 20, 140)),
        ((150, 40, 96), (95, 45, 102), (45, 35, 92)),
        ((-150, 40, 96), (-60, 40, 96), (-10, 30, 84)),
    )
    way = [*start[int(rng.integers(3))], (21 + shift, 6, 66), (23 + shift, 8, rng.uniform(5, 40))]
    return [curve(way, 1.1, PLASTIC)]


def breathing_tube(chest: Chest) -> list[Tubes]:
    """A tube in the trachea with an opaque strip."""
    end = chest.visit.uniform("tube end", 50, 85)
    way = [(0, 8, 230), (0, 2, 150), (chest.shift * 0.5, -4, end)]
    strip = [np.array(point) + mm(4, 0, 0) for point in way]
    return [curve(way, 5.0, 0.8), curve(way, 3.8, -0.8), curve(strip, 0.8, 2 * PLASTIC)]


def stomach_tube(chest: Chest) -> list[Tubes]:
    """A tube down the oesophagus into the stomach."""
    low = chest.dome[-1]
    way = [
        (-3, -10, 230),
        (-2, -20, 110),
        (-4 + chest.shift, -36, 20),
        (-10, -25, low),
        (-40, 5, low - 40),
        (-60, 20, low - 70),
    ]
    return [curve(way, 1.6, PLASTIC)]


def drain(chest: Chest) -> list[Tubes]:
    """A tube through the side of the chest, up to the apex or down to the base."""
    rng = chest.visit.rng("drain")
    air = chest.visit.severity("Pneumothorax") > 0
    side = chest.side("Pneumothorax" if air else "Effusion")
    inner = chest.place(side, 0.3, 0.3, 0.85) if air else chest.place(side, 0.5, -0.6, 0.12)
    wall = chest.place(side, 1.0, 0.2, rng.uniform(0.15, 0.4))
    way = [wall + mm(side * 70, 0, -25), wall, (wall + inner) / 2 + mm(-side * 12, 0, 4), inner]
    strip = [point + mm(2.5, 0, 0) for point in way]
    return [curve(way, 4.0, 0.9), curve(way, 2.8, -0.9), curve(strip, 0.7, 2 * PLASTIC)]


def sternal_wires(chest: Chest) -> list[Tubes]:
    """Loops that close the sternum after an operation."""
    rng, turn = chest.visit.patient.rng("cxr wires"), np.linspace(0, 2 * np.pi, 14)
    parts = []
    for z in np.linspace(70, -45, 6):
        loop = np.stack([9 * np.cos(turn), np.full(14, 88.0), 3 * np.sin(turn + rng.normal(0, 0.4))], axis=1)
        parts.append(curve(loop + mm(rng.normal(0, 2), 0, z + rng.normal(0, 2)), 0.5, METAL))
    return parts


def clips(chest: Chest) -> list[Tubes]:
    """A few clips on vessels beside the heart or in the armpit."""
    rng, parts = chest.visit.patient.rng("cxr clips"), []
    middle = mm(-45, 60, -10) if rng.random() < 0.6 else mm(rng.choice(SIDES) * 135, 30, 60)
    for _ in range(int(rng.integers(2, 8))):
        spot = middle + rng.normal(0, 16, 3)
        parts.append(curve([spot, spot + rng.normal(0, 2.5, 3)], 0.7, METAL))
    return parts


def pacemaker(chest: Chest) -> list[Tubes]:
    """A battery below a clavicle and one or two leads to the right side of the heart."""
    patient = chest.visit.patient
    side = -1 if patient.uniform("pacemaker side") < 0.85 else 1
    spot = mm(side * 95, 95, 62)
    tip: NDArray = mm(-32 + chest.shift, 45, chest.dome[-1] + 16)
    way = [spot, spot + mm(0, -20, 26), mm(side * 60, 45, 100), mm(side * 14, 25, 86), mm(21 + chest.shift, 8, 55)]
    parts = [curve([spot - mm(5, 0, 2), spot + mm(5, 0, 2)], 19.0, 1.4)]
    parts.append(curve([*way, mm(24 + chest.shift, 15, -5), tip + mm(30, -10, -2), tip], 0.9, METAL))
    if patient.uniform("second lead") < 0.6:
        parts.append(curve([*way, mm(27 + chest.shift, 15, -5), mm(15 + chest.shift, 35, 8)], 0.9, METAL))
    return parts
