"""The 13 organs of the BTCV challenge, placed relative to each other by one set of anchors."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .ct_body import Scene, hold_inside
from .shapes import Solid, ellipsoid, mm, tube, unite

# BTCV's label numbers.
ORGANS: dict[str, int] = {
    "spleen": 1,
    "right kidney": 2,
    "left kidney": 3,
    "gallbladder": 4,
    "esophagus": 5,
    "liver": 6,
    "stomach": 7,
    "aorta": 8,
    "inferior vena cava": 9,
    "portal and splenic veins": 10,
    "pancreas": 11,
    "right adrenal gland": 12,
    "left adrenal gland": 13,
}
FAT_PLANE_MM = 1.6  # organs keep this much fat around them


class Anchors:
    """Where the organs of a patient are, in anatomy mm; vessels and ducts run between these points."""

    def __init__(self, scene: Scene) -> None:
        place = scene.subject.place
        self.liver = place("liver", (74, 6, 33), jitter=0.7)
        self.left_lobe = self.liver + place("left lobe", (-70, 40, 32), follow=0, jitter=0.9)
        below = self.liver + place("gallbladder", (-22, 46, -48), follow=0)
        self.gallbladder = hold_inside(scene.subject, below, 18)
        self.spleen = hold_inside(scene.subject, place("spleen", (-106, -36, 34)), 26)
        right, left = place("right kidney", (64, -38, -32)), place("left kidney", (-62, -38, -18))
        self.kidneys = {1: hold_inside(scene.subject, right, 30), -1: hold_inside(scene.subject, left, 30)}
        self.fundus = place("fundus", (-66, 2, 66))
        self.antrum = place("antrum", (-8, 58, -14), jitter=1.5)
        self.confluence = place("confluence", (12, 14, -2), jitter=0.6)
        self.pancreas_body = place("pancreas body", (-26, 26, 12), jitter=0.7)

    @cached_property
    def splenic_hilum(self) -> NDArray:
        """The spleen's inner face."""
        return self.spleen + mm(24, 12, -4)

    @cached_property
    def liver_hilum(self) -> NDArray:
        """Where the portal vein enters the liver."""
        return 0.5 * (self.liver + self.left_lobe) + mm(4, -14, -10)


def paint_organs(scene: Scene, anchors: Anchors) -> None:
    """Paint every labelled organ but the vessels; later ones override earlier ones."""
    paint_liver(scene, anchors)
    paint_spleen(scene, anchors)
    paint_stomach(scene, anchors)
    for side in (1, -1):
        paint_kidney(scene, anchors, side)
        paint_adrenal(scene, anchors, side)
    paint_pancreas(scene, anchors)
    paint_gallbladder(scene, anchors)


def deposit(
    scene: Scene, name: str, solid: Solid, hu: float, scale: float = 26, rough: float = 2.2, plane: float = FAT_PLANE_MM
) -> Solid:
    """Roughen an organ, surround it by a thin fat plane, paint it with its label, and return it."""
    solid = solid.roughen(scene.grid, scene.subject.noise(name, scale), rough)
    scene.fill(solid.within(scene.cavity), scene.subject.hu("fat"), grow=plane)
    scene.fill(solid, hu, ORGANS[name])
    return solid


def paint_liver(scene: Scene, anchors: Anchors) -> None:
    """A large right and a flat left lobe below the right dome, against the wall."""
    subject, grid = scene.subject, scene.grid
    scale = subject.scale("liver", 0.11)
    right = ellipsoid(grid, anchors.liver, np.array([59, 71, 71]) * scale, subject.angles("liver", 0.12))
    tilt = np.array([0.0, 0.25, -0.2]) + subject.angles("left lobe", 0.15)
    left = ellipsoid(grid, anchors.left_lobe, np.array([67, 33, 32]) * scale * subject.scale("left lobe"), tilt)
    liver = unite(right, left).within(scene.cavity + 1.5).within(scene.diaphragm + 3)
    deposit(scene, "liver", liver, subject.hu("liver"), scale=36, rough=3.5)


def paint_spleen(scene: Scene, anchors: Anchors) -> None:
    """A crescent under the left dome, bent along the wall."""
    subject = scene.subject
    course = anchors.spleen + np.array([(16, -20, 34), (-2, 0, 4), (4, 24, -34)])
    solid = tube(scene.grid, course, np.array([25, 33, 21]) * subject.scale("spleen"))
    solid = solid.within(scene.cavity + 2).within(scene.diaphragm + 3)
    deposit(scene, "spleen", solid, subject.hu("spleen"), rough=2.5)


def paint_stomach(scene: Scene, anchors: Anchors) -> None:
    """Fundus under the left dome, body to the front, antrum across the midline; wall, fluid and gas in front."""
    subject, grid = scene.subject, scene.grid
    scale = subject.scale("stomach", 0.16)
    body = 0.5 * (anchors.fundus + anchors.antrum) + mm(-26, 20, 4)
    course = [anchors.fundus, body, anchors.antrum, anchors.confluence + mm(22, 26, 2)]
    solid = tube(grid, course, np.array([31, 24.5, 17, 11]) * scale.mean())
    paint_esophagus(scene, anchors)
    solid = solid.within(scene.cavity + 3).within(scene.diaphragm + 3)
    solid = deposit(scene, "stomach", solid, subject.hu("gut wall"))
    rng = subject.rng("stomach content")
    lumen = Solid(solid.box, solid.distance + 4.5)
    scene.fill(lumen, content_texture(scene, lumen, subject.hu("stomach content"), 18), ORGANS["stomach"])
    height = grid.points[1][lumen.box] - (body[1] + rng.uniform(2, 42))
    gas = Solid(lumen.box, np.maximum(lumen.distance, -height))
    scene.fill(gas, -960.0, ORGANS["stomach"])


def content_texture(scene: Scene, solid: Solid, hu: float, amplitude: float) -> NDArray[np.float32]:
    """Uneven content of a hollow organ in a solid's box."""
    return hu + amplitude * scene.subject.noise("content", 14)(scene.grid.axes_of(solid.box))


def paint_esophagus(scene: Scene, anchors: Anchors) -> None:
    """From behind the heart through the diaphragm into the fundus, at times with a bubble of gas."""
    subject = scene.subject
    entry = anchors.fundus + mm(26, 2, 6)
    hiatus = subject.place("hiatus", (-10, -12, 98), follow=0.6, jitter=0.5)
    course = [subject.place("gullet", (-6, -24, 185), follow=0, jitter=0.5), hiatus, 0.5 * (hiatus + entry), entry]
    solid = tube(scene.grid, course, np.array([9.5, 9, 9.5, 10]) * subject.scale("esophagus").mean())
    solid = deposit(scene, "esophagus", solid, subject.hu("gut wall") - 8, rough=0.8)
    bubbles = subject.noise("bubbles", 22)(scene.grid.axes_of(solid.box))
    scene.fill(Solid(solid.box, np.maximum(solid.distance + 5.5, 1.1 - bubbles)), -700.0, ORGANS["esophagus"])


def paint_kidney(scene: Scene, anchors: Anchors, side: int) -> None:
    """A bean in its own fat: cortex, pyramids, and an unlabelled fatty sinus with the renal pelvis."""
    subject, grid = scene.subject, scene.grid
    name = "right kidney" if side > 0 else "left kidney"
    centre = anchors.kidneys[side]
    angles = np.array([0.15, -0.2 * side, 0.5 * side]) + subject.angles(name, 0.12)
    radii = np.array([23, 25, 50]) * subject.scale(name, 0.10)
    bean = ellipsoid(grid, centre, radii, angles, reach=22)
    room = bean.distance < 9 + 3 * subject.latents.fat + 3 * subject.noise(name + " fat", 40)(grid.axes_of(bean.box))
    scene.fill(Solid(bean.box, np.where(room, -1, 1).astype(np.float32)).within(scene.cavity), subject.hu("fat"))
    bean = deposit(scene, name, bean.within(scene.cavity + 2), subject.hu("kidney cortex"), rough=1.5)
    pyramids = subject.noise(name + " pyramids", 9)(grid.axes_of(bean.box))
    scene.tint(Solid(bean.box, np.maximum(bean.distance + 6, -pyramids)), subject.hu("kidney medulla"), ORGANS[name])
    sinus = ellipsoid(grid, centre - np.array([side * 17, -6, 0]), np.array([15, 9, 24]) * radii[2] / 54, angles)
    scene.fill(sinus.roughen(grid, subject.noise(name + " sinus", 14), 2), subject.hu("fat") + 35)
    vein = [centre - np.array([side * 12, -6, 0]), [side * 12, -6, centre[2] + 4]]
    scene.fill(tube(grid, vein, 5.0), subject.hu("vena cava") + 10)


def paint_adrenal(scene: Scene, anchors: Anchors, side: int) -> None:
    """A Y of three thin plates above and inside the kidney."""
    subject, grid = scene.subject, scene.grid
    name = "right adrenal gland" if side > 0 else "left adrenal gland"
    offset = np.array([-28 * side, 17, 46 if side > 0 else 36])
    centre = anchors.kidneys[side] + offset + subject.place(name, (0, 0, 0), follow=0, jitter=0.3)
    plates = None
    for turn, shift in ((0.0, (0, 7, 4)), (0.5, (4, -6, -3)), (-0.5, (-4, -6, -3))):
        angles = np.array([0, 0, turn]) + subject.angles(name, 0.12)
        radii = np.array([2.7, 10, 14]) * subject.scale(name)
        plate = ellipsoid(grid, centre + np.array(shift), radii, angles)
        plates = plate if plates is None else unite(plates, plate)
    deposit(scene, name, plates, subject.hu("adrenal"), scale=12, rough=0.5)


def paint_pancreas(scene: Scene, anchors: Anchors) -> None:
    """Head in the duodenal loop, neck over the confluence, tail at the spleen's inner face; lobulated."""
    subject = scene.subject
    head = anchors.confluence + mm(18, 2, -18)
    body = anchors.pancreas_body
    tail = anchors.splenic_hilum + mm(20, 8, -6)
    neck, bend = anchors.confluence + mm(0, 13, 4), 0.5 * (body + tail) + mm(0, -4, 2)
    course = [head + mm(2, -4, -14), head, neck, body, bend, tail]
    solid = tube(scene.grid, course, np.array([10, 15, 10.5, 12.5, 12.5, 11]) * subject.scale("pancreas").mean())
    deposit(scene, "pancreas", solid, subject.hu("pancreas"), scale=9, rough=1.6)


def paint_gallbladder(scene: Scene, anchors: Anchors) -> None:
    """A pear under the liver with a thin wall."""
    subject = scene.subject
    axis = np.array([-4, 9, -24]) * subject.scale("gallbladder length", 0.2)
    course = anchors.gallbladder + np.array([-axis, [0, 0, 0], axis])
    radii = np.array([7, 13, 15]) * subject.scale("gallbladder", 0.2).mean()
    solid = tube(scene.grid, course, radii).within(scene.cavity + 2)
    solid = deposit(scene, "gallbladder", solid, subject.hu("liver") - 30, rough=1.0)
    scene.tint(Solid(solid.box, solid.distance + 1.2), subject.hu("gallbladder"), ORGANS["gallbladder"])
