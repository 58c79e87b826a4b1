"""Aorta, vena cava and the portal system, labelled as in BTCV, with unlabelled branches of the same blood."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .ct_body import Scene
from .ct_organs import ORGANS, Anchors, deposit
from .shapes import Solid, mm, tube, unite


def course_of(scene: Scene, name: str, points: ArrayLike, jitter: float) -> NDArray:
    """A vessel's atlas course (n, 3), moved as a whole and bent a little."""
    rng = scene.subject.rng(name + " course")
    points = np.asarray(points, float)
    return points + jitter * rng.standard_normal(3) * [1, 1, 0] + 0.5 * jitter * rng.standard_normal(points.shape)


def paint_vessels(scene: Scene, anchors: Anchors) -> None:
    """Paint all of them, after the organs that they run through."""
    paint_great_vessels(scene)
    paint_portal_system(scene, anchors)
    paint_liver_vessels(scene, anchors)


def paint_great_vessels(scene: Scene) -> None:
    """Aorta left of and vena cava right of the spine's front; below their forks the iliac vessels are unlabelled."""
    subject, grid = scene.subject, scene.grid
    fork = -112 + 9 * float(subject.rng("fork").standard_normal())
    cava = [(22, -12, fork - 4), (23, -11, -60), (27, -6, 0), (33, -1, 55), (28, 4, 100), (20, 10, 135)]
    cava = course_of(scene, "vena cava", cava, 3.5)
    aorta = [(-5, -14, fork), (-6, -15, -40), (-8, -16, 20), (-11, -19, 70), (-22, -32, 125), (-26, -38, 190)]
    aorta = course_of(scene, "aorta", aorta, 3.5)
    for name, course, radius in (("vena cava", cava, 10.5), ("aorta", aorta, 9.5)):
        depth = -4 if name == "vena cava" else 4
        for side in (-1, 1):
            end = mm(side * 34, -8 + depth, fork - 62)
            limb = [course[0], 0.5 * (course[0] + end) + mm(0, 3, 8), end]
            scene.fill(tube(grid, limb, 6.5), subject.hu(name))
        width = np.linspace(0.92, 1.12, len(course)) * radius * subject.scale(name, 0.12).mean()
        label = "inferior vena cava" if name == "vena cava" else "aorta"
        deposit(scene, label, tube(grid, course, width), subject.hu(name), scale=30, rough=0.8, plane=0.6)
    mesenteric = aorta[2] + np.array([(1, 8, -16), (4, 24, -28), (6, 30, -90)])
    scene.fill(tube(grid, mesenteric, (4.5, 4, 3)), subject.hu("aorta"))


def paint_portal_system(scene: Scene, anchors: Anchors) -> None:
    """Splenic vein behind the pancreas, portal vein to the liver; the mesenteric vein below is not labelled."""
    subject, grid = scene.subject, scene.grid
    body = anchors.pancreas_body
    meeting, hilum = anchors.confluence, anchors.splenic_hilum
    hue = subject.hu("portal vein")
    mesenteric = meeting + np.array([(0, 0, 0), (2, 10, -45), (0, 16, -100)])
    scene.fill(tube(grid, mesenteric, (5.5, 5, 3.5)), hue)
    splenic = [hilum, 0.5 * (hilum + body) + mm(0, -14, 2), body + mm(0, -12, 0), meeting]
    portal = [meeting, 0.5 * (meeting + anchors.liver_hilum) + mm(4, -4, 0), anchors.liver_hilum]
    veins = unite(tube(grid, splenic, (4.5, 5, 5.2, 6)), tube(grid, portal, (7.5, 8, 7)))
    deposit(scene, "portal and splenic veins", veins, hue, scale=20, rough=0.5, plane=0.6)


def paint_liver_vessels(scene: Scene, anchors: Anchors) -> None:
    """Portal branches and hepatic veins inside the liver; they keep the liver's label."""
    subject, grid = scene.subject, scene.grid
    gate, outlet = anchors.liver_hilum, mm(27, 2, 92 + subject.visceral_shift[2])
    for end in (anchors.liver + mm(12, -22, 2), anchors.liver + mm(22, 30, -12), anchors.left_lobe + mm(-18, 4, 0)):
        branch = tube(grid, [gate, 0.5 * (gate + end) + mm(4, 4, 8), end], (6, 4.5, 3))
        scene.tint(branch, subject.hu("portal vein"), ORGANS["liver"])
    for end in (anchors.liver + mm(34, -20, 20), anchors.liver + mm(8, 34, 22), anchors.left_lobe + mm(-8, 2, 8)):
        vein = tube(grid, [outlet, 0.5 * (outlet + end) + mm(0, 0, 10), end], (6, 4, 2.5))
        scene.tint(vein, 0.5 * (subject.hu("vena cava") + subject.hu("portal vein")), ORGANS["liver"])
    # Twigs run where two smooth fields are both near zero.
    noise = np.hypot(*(subject.noise(f"liver twigs {i}", 13)(grid.axes) for i in range(2)))
    twigs = Solid(tuple(slice(n) for n in noise.shape), noise - 0.13)
    scene.tint(twigs, 0.5 * (subject.hu("liver") + subject.hu("portal vein")), ORGANS["liver"])
