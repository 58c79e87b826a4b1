"""Look-alikes of a tumour that carry no label: white matter lesions, caps, vessels, choroid plexus, old infarcts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .mr_anatomy import Brain, Layers
from .mr_head import SIDES, capsules, ellipsoid_distance
from .shapes import mm


def paint_lookalikes(brain: Brain) -> Layers:
    """All layers above the healthy anatomy and below the tumour."""
    return [*white_lesions(brain), *infarcts(brain), *plexus(brain), *vessels(brain)]


def white_lesions(brain: Brain) -> Layers:
    """Bright caps around the ventricles and patches in deep white matter, more with age."""
    head, points = brain.head, brain.points
    load = head.latents.age + 0.6 * head.rng("lesion load").standard_normal()
    caps = brain.ventricle - (2.0 + 1.6 * load + 3.0 * head.wander("caps", points, 22))
    deep = brain.pial - brain.sulcus_mm - 6
    patches = 5.5 * (1.9 - 0.45 * load - head.wander("patches", points, 11))
    inside = np.maximum(-deep, -brain.ventricle - brain.width)
    return [("gliosis", 0.85 * brain.share(np.maximum(np.minimum(caps, patches), inside)))]


def infarcts(brain: Brain) -> Layers:
    """One to three infarcts at the surface, without swelling: a cavity in old ones, enhancing cortex in young ones."""
    head, layers = brain.head, []
    rng = head.rng("infarcts")
    for number in range(int(rng.integers(1, 4))):
        place = surface_point(rng)
        radii = rng.uniform(9, 21) * np.exp(0.25 * rng.standard_normal(3))
        smooth = ellipsoid_distance(brain.points, place, radii)
        area = np.maximum(head.roughen(smooth, f"infarct {number}", brain.points, 9, 2.5), -brain.cerebellum)
        tissue = np.maximum(area, brain.sulcus_mm - brain.pial)
        layers.append(("gliosis", 0.9 * brain.share(tissue)))
        if rng.random() < 0.5:
            hollow = np.maximum(tissue + rng.uniform(3, 8), 4 - brain.pial)
            layers.append(("cavity", rng.uniform(0.25, 1) * brain.share(hollow)))
        else:
            ribbon = brain.pial - brain.sulcus_mm - rng.uniform(2.5, 4.5)
            layers.append(("enhancing", rng.uniform(0.6, 1) * brain.share(np.maximum(tissue + 2, ribbon))))
    return layers


def surface_point(rng: np.random.Generator) -> NDArray[np.float64]:
    """A point under the convexity of one hemisphere, in anatomy mm."""
    side, front, up = rng.choice(SIDES), rng.uniform(-1.1, 1.0), rng.uniform(-0.1, 1.1)
    return mm(0, 0, 12) + mm(56, 72, 44) * mm(side * np.cos(front) * np.cos(up), np.sin(front), np.sin(up))


def plexus(brain: Brain) -> Layers:
    """The enhancing choroid plexus in both atria."""
    layers = []
    for side in SIDES:
        course = np.array([(12, -22, 17), (22, -36, 9), (30, -28, -6)]) * mm(side, 1, 1)
        tube = capsules(brain.points, course, (1.2, 3.2, 1.2))
        tube = brain.head.roughen(tube, f"plexus {side}", brain.points, 6, 0.8)
        layers.append(("plexus", brain.share(np.maximum(tube, brain.ventricle))))
    return layers


def vessels(brain: Brain) -> Layers:
    """Dural sinuses, deep and cortical veins, and both middle cerebral arteries: bright after contrast agent."""
    x, y, z = brain.points
    sinus = np.maximum.reduce([np.abs(x) - 3.5, brain.depth - 4.5, 22 - z - np.abs(y + 20) * 0.3])
    straight = capsules(brain.points, [(0, -2, 16), (0, -36, 14), (0, -66, 0), (0, -84, -4)], (1.2, 1.8, 2.2, 3))
    tubes = [sinus, straight, cortical_veins(brain)]
    for side in SIDES:
        course = np.array([(4, 4, -16), (22, 8, -14), (40, 4, -4), (46, -16, 8), (52, -34, 18)]) * mm(side, 1, 1)
        tubes.append(capsules(brain.points, course, (1.8, 1.8, 1.6, 1.3, 1.0)))
    return [("vessel", brain.share(np.min(tubes, axis=0)))]


def cortical_veins(brain: Brain) -> NDArray[np.float32]:
    """Distance to lines in the sulci, where a second noise is zero."""
    distance = brain.pial - 1.4
    near = distance < 3
    line = 9 * np.abs(brain.head.wander("veins", brain.points[:, near], 17))
    distance[near] = np.maximum(distance[near], line - 1.5)
    return distance
