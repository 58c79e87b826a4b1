"""Unlabelled look-alikes in the abdomen: colon with stool and gas, small bowel, duodenum and mesenteric vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ct_body import Scene
from .shapes import mm, tube

LOOPS = 14


def paint_bowel(scene: Scene) -> None:
    """Paint all of it; organs are painted later and take its place."""
    paint_mesentery(scene)
    for loop in range(LOOPS):
        paint_loop(scene, f"loop {loop}")
    paint_colon(scene)
    paint_duodenum(scene)


def paint_mesentery(scene: Scene) -> None:
    """Thin vessels in the fat, where two smooth fields are both near zero."""
    y = scene.grid.points[1]
    subject = scene.subject
    strands = np.hypot(*(subject.noise(f"mesentery {i}", 17)(scene.grid.axes) for i in range(2)))
    region = (scene.cavity < -4) & (scene.diaphragm < -4) & (y > -25)
    scene.hu[region & (strands < 0.17)] = subject.hu("vena cava") - 30


def paint_gut(scene: Scene, name: str, course: NDArray, radii: NDArray, content: float, gas: float) -> None:
    """A piece of gut: enhancing wall, mottled content, and gas above a level (`gas` mm over the lumen's middle)."""
    subject, grid = scene.subject, scene.grid
    solid = tube(grid, course, radii).roughen(grid, subject.noise(name, 18), 1.8)
    solid = solid.within(scene.cavity + 2).within(scene.diaphragm + 4)
    scene.fill(solid, subject.hu("fat"), grow=1.2)
    scene.fill(solid, subject.hu("gut wall") + 12)
    texture = subject.noise(name + " content", 9)(grid.axes_of(solid.box))
    solid.distance = solid.distance + 2.8
    scene.fill(solid, content + 14 * texture)
    above = gas + np.mean(course, axis=0)[1] - grid.points[1][solid.box]
    solid.distance = np.maximum(solid.distance, above - 5 * texture)
    scene.fill(solid, -880.0)


def paint_loop(scene: Scene, name: str) -> None:
    """One winding loop of small bowel in the middle and lower abdomen, empty to contrast-filled."""
    subject = scene.subject
    rng = subject.rng(name)
    start = rng.uniform((-95, -10, -160), (80, 75, 15)) + subject.visceral_shift
    steps = rng.standard_normal((7, 3)) * [1, 0.7, 0.7]
    steps = steps + 0.7 * np.roll(steps, 1, axis=0)
    course = start + np.cumsum(26 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    radii = rng.uniform(10, 16) * rng.uniform(0.85, 1.15, len(course))
    gas = rng.uniform(-4, 8) if rng.random() < 0.3 else 99.0
    paint_gut(scene, name, course, radii, rng.uniform(20, 130), gas)


def paint_colon(scene: Scene) -> None:
    """The colon's frame, haustrated, each part filled in its own way."""
    subject = scene.subject
    right, left = subject.place("hepatic flexure", (92, 30, -48)), subject.place("splenic flexure", (-104, 22, 8))
    middle = subject.place("transverse colon", (-2, 72, -62), jitter=1.8)
    caecum, sigmoid = subject.place("caecum", (92, 8, -150)), subject.place("sigmoid", (-104, -18, -160))
    parts = {
        "ascending colon": ([caecum, 0.5 * (caecum + right) + mm(6, -8, 0), right], 23),
        "right transverse colon": ([right, 0.5 * (right + middle) + mm(0, 10, -4), middle], 19),
        "left transverse colon": ([middle, 0.5 * (middle + left) + mm(0, 14, 0), left], 18),
        "descending colon": ([left, 0.5 * (left + sigmoid) + mm(-2, -30, 0), sigmoid], 15),
    }
    for name, (course, radius) in parts.items():
        rng = subject.rng(name)
        dense = subdivide(np.asarray(course), 9)
        radii = radius * rng.uniform(0.8, 1.2) * rng.uniform(0.8, 1.15, len(dense))
        paint_gut(scene, name, dense, radii, rng.uniform(10, 90), rng.uniform(-14, 22))


def subdivide(course: NDArray, count: int) -> NDArray:
    """`count` points along a polyline (n, 3), so that haustra can have a radius each."""
    where, nodes = np.linspace(0, len(course) - 1, count), np.arange(len(course))
    return np.stack([np.interp(where, nodes, course[:, axis]) for axis in range(3)], axis=1)


def paint_duodenum(scene: Scene) -> None:
    """A C around the head of the pancreas and on to the left, unlabelled beside stomach and pancreas."""
    subject = scene.subject
    meeting = subject.place("confluence", (12, 14, -2), jitter=0.6)
    course = meeting + np.array([(24, 26, 2), (40, 8, 0), (42, -4, -30), (22, -8, -52), (-14, -2, -50), (-34, 14, -34)])
    rng = subject.rng("duodenum")
    paint_gut(scene, "duodenum", course, rng.uniform(9, 14, len(course)), rng.uniform(15, 90), rng.uniform(2, 30))
