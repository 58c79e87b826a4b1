"""Everything around the organs of an abdominal CT: table, fat, wall, ribs, spine, muscles, lungs and heart."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .shapes import Grid, Solid, ellipsoid, tube
from .subject import Subject

AIR_HU = -1000.0
SPINE_Y = -50.0


@dataclass
class Scene:
    """A patient on a grid while it is painted. Distances are in mm over the whole grid and negative inside."""

    subject: Subject
    grid: Grid
    hu: NDArray[np.float32] = field(init=False)
    label: NDArray[np.uint8] = field(init=False)
    cavity: NDArray[np.float32] = field(init=False)
    diaphragm: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        shape = self.grid.points.shape[1:]
        self.hu = np.full(shape, AIR_HU, np.float32)
        self.label = np.zeros(shape, np.uint8)
        self.cavity = cavity_distance(self)
        self.diaphragm = diaphragm_distance(self)

    def fill(self, solid: Solid, hu: float | NDArray, label: int = 0, grow: float = 0.0) -> NDArray[np.bool_]:
        """Paint the solid, grown by `grow` mm, and return which voxels of its box were painted."""
        inside = solid.distance < grow
        self.hu[solid.box][inside] = hu[inside] if isinstance(hu, np.ndarray) else hu
        self.label[solid.box][inside] = label
        return inside

    def tint(self, solid: Solid, hu: float, only: int) -> None:
        """Change the HU of those voxels of a solid that carry the label `only`; the labels stay."""
        self.hu[solid.box][(solid.distance < 0) & (self.label[solid.box] == only)] = hu


def radial_distance(first: NDArray, second: NDArray, radii: tuple[float, float], power: float) -> NDArray[np.float32]:
    """Distance in mm along the ray from the centre of a super-ellipse."""
    level = (np.abs(first / radii[0]) ** power + np.abs(second / radii[1]) ** power) ** (1 / power)
    return np.hypot(first, second) * (1 - 1 / np.maximum(level, 1e-2))


def cavity_distance(scene: Scene) -> NDArray[np.float32]:
    """Distance to the inner side of the abdominal wall."""
    wobble = 2.0 * scene.subject.noise("wall", 60.0)(scene.grid.axes)
    return wall_distance(scene.subject, scene.grid.points) + wobble


def wall_distance(subject: Subject, points: NDArray) -> NDArray:
    """Distance of points (3, ...) to the smooth inner wall; girth widens it to the sides and to the front."""
    x, y, z = points
    girth = subject.latents.girth
    return radial_distance(x * (1 + (z / 420) ** 2), y - 5 - 6 * girth, (129 + 7 * girth, 86 + 6 * girth), 2.3)


def hold_inside(subject: Subject, point: NDArray, depth: float) -> NDArray:
    """The point, moved towards the body's axis until it lies at least `depth` mm inside the wall."""
    axis = np.array([0.0, 5.0, point[2]])
    while wall_distance(subject, point) > -depth:
        point = axis + 0.97 * (point - axis)
    return point


def diaphragm_distance(scene: Scene) -> NDArray[np.float32]:
    """Height above the two domes of the diaphragm: positive is chest, negative is abdomen."""
    x, y, z = scene.grid.points
    left, front, up = scene.subject.visceral_shift
    right_dome = 110 - 36 * ((x - 68 - left) / 78) ** 2
    left_dome = 102 - 34 * ((x + 72 - left) / 72) ** 2
    forward = np.clip(y - 15 - front, 0, None) / 80
    backward = np.clip(15 + front - y, 0, None) / 80
    dome = np.maximum(right_dome, left_dome) - 34 * forward**2 - 34 * backward**2
    return z - up - dome - 3 * scene.subject.noise("diaphragm", 45.0)(scene.grid.axes)


def paint_body(scene: Scene) -> None:
    """Paint all of it, from the table inwards."""
    paint_wall(scene)
    paint_ribs(scene)
    paint_chest(scene)
    paint_muscles(scene)
    paint_spine(scene)
    paint_table(scene)


def paint_wall(scene: Scene) -> None:
    """Skin, subcutaneous fat, the muscle ring and the fatty inside of the abdomen; and the table below."""
    subject, cavity, hu = scene.subject, scene.cavity, scene.hu
    x, y, z = scene.grid.points
    fat = subject.latents.fat
    lower = np.clip((40 - z) / 160, 0, 1)
    muscle = 8 + 6 * np.abs(x) / 130 + 13 * np.clip(-y / 80, 0, 1)
    side = np.clip(np.abs(x) / 130, 0, 1)
    front = np.clip(y / 80, 0, 1)
    thick = (17 + 5 * fat) * (0.45 + 0.35 * side + 0.75 * front) * (0.6 + 0.9 * lower)
    thick += 1.5 * subject.noise("subcutaneous", 50.0)(scene.grid.axes)
    skin = muscle + np.maximum(thick, 4)
    hu[cavity < skin + 2.5] = 5.0
    hu[cavity < skin] = subject.hu("fat")
    hu[cavity < muscle] = subject.hu("muscle")
    # A thin fat plane between the oblique muscles, where the wall is thick enough to show one.
    hu[(np.abs(cavity - 0.55 * muscle) < 0.7) & (side > 0.6) & (z < 20)] = -40.0
    hu[cavity < 0] = subject.hu("fat") + 4


def paint_table(scene: Scene) -> None:
    """A curved carbon plate, foam and a lower plate; straight in world coordinates, unlike the patient."""
    x, y, _ = np.meshgrid(*scene.grid.axes, indexing="ij", sparse=True)
    outside = scene.hu <= AIR_HU
    back = y.ravel()[int(np.argmin(outside.all(axis=(0, 2))))]
    surface = back + 0.0011 * x**2
    depth = np.broadcast_to(surface - y, outside.shape)
    width = np.broadcast_to(np.abs(x) < 190, outside.shape)
    for low, high, value in ((0, 4, 150.0), (4, 24, -930.0), (24, 28, 150.0)):
        scene.hu[outside & width & (depth >= low) & (depth < high)] = value


def paint_ribs(scene: Scene) -> None:
    """Slanted arcs within the wall of the chest, bone with marrow behind and cartilage in front."""
    x, y, z = scene.grid.points
    rng = scene.subject.rng("ribs")
    along = z + 0.55 * (y + 80) + rng.uniform(-12, 12)
    margin = -42 + 118 * np.clip((y + 30) / 115, 0, 1) ** 1.3 + 0.55 * np.abs(y + 80) * (y < -30)
    across = np.hypot((scene.cavity - 7) / 4.2, (np.mod(along, 29) - 14.5) / 6.0)
    rib = (across < 1) & (z > margin) & (np.hypot(x, y + 80) > 30)
    scene.hu[rib] = np.where(across < 0.6, 190.0, 420.0)[rib]
    scene.hu[rib & (y > 48)] = 105.0


def paint_chest(scene: Scene) -> None:
    """Lungs with vessels, the diaphragm as a thin muscle, and the heart in the mediastinum."""
    x, y, _ = scene.grid.points
    subject, axes = scene.subject, scene.grid.axes
    middle = np.hypot((x + 4) / 34, (y + 30) / 42) < 1
    middle |= (np.abs(x + 5) < 18 + 12 * np.clip((y - 20) / 60, 0, 1)) & (y > -30)
    chest = (scene.diaphragm > 0) & (scene.cavity < -1)
    lung = chest & ~middle
    vessels = np.hypot(subject.noise("lung 1", 15.0)(axes), subject.noise("lung 2", 15.0)(axes))
    scene.hu[lung] = (subject.hu("lung") + 55 * subject.noise("lung 3", 40.0)(axes))[lung]
    scene.hu[lung & (vessels < 0.16)] = -60.0
    scene.hu[(np.abs(scene.diaphragm) < 1.8) & (scene.cavity < 0) & ~middle] = subject.hu("muscle")
    centre = subject.place("heart", (-26, 32, 158))
    heart = ellipsoid(scene.grid, centre, np.array([62, 46, 56]) * subject.scale("heart", 0.08), (0.3, 0.3, 0.4))
    above = Solid(heart.box, np.maximum(heart.distance, 2 - scene.diaphragm[heart.box])).within(scene.cavity + 3)
    scene.fill(above, subject.hu("muscle") + 40)
    above.distance = above.distance + 13 + 3 * subject.noise("chambers", 30.0)(scene.grid.axes_of(above.box))
    scene.fill(above, 0.5 * (subject.hu("aorta") + subject.hu("vena cava")))


def paint_spine(scene: Scene) -> None:
    """Vertebrae with cortex, discs, the canal and the processes; unlabelled bone beside the great vessels."""
    x, y, z = scene.grid.points
    subject = scene.subject
    y = y - SPINE_Y
    level = np.mod(z + subject.rng("vertebrae").uniform(0, 34), 34) - 17
    body = radial_distance(x, y, (23.0, 17.0), 2.3) + 1.5 * np.cos(level / 17 * np.pi)
    marrow = subject.hu("marrow")
    mottle = 30 * subject.noise("marrow texture", 7.0)(scene.grid.axes)
    bone = (body < 0) & (np.abs(level) < 13)
    arch = (np.hypot(x, y + 24) < 15) & (np.abs(level) < 10)
    arch |= (np.abs(x) < 44) & (np.abs(y + 24) < 4.5) & (np.abs(level) < 5)
    arch |= (np.abs(x) < 3.5) & (y < -32) & (y > -52) & (np.abs(level) < 9)
    arch |= (np.hypot(np.abs(x) - 17, y + 30) < 8) & (np.abs(level) > 8)
    scene.hu[arch] = 330.0
    scene.hu[(body < 0) & ~bone] = 88.0
    scene.hu[bone] = (marrow + mottle)[bone]
    scene.hu[bone & ((body > -2.6) | (np.abs(level) > 11))] = marrow + 190
    canal = np.hypot(x / 10, (y + 24) / 8) < 1
    scene.hu[canal] = 28.0


def paint_muscles(scene: Scene) -> None:
    """Erector spinae, psoas, quadratus lumborum and the iliac wings."""
    grid, subject = scene.grid, scene.subject
    muscle = subject.hu("muscle")
    noise = subject.noise("muscle", 30.0)
    _, y, _ = grid.points
    for side in (-1, 1):
        back = tube(grid, [(side * 31, -88, 190), (side * 33, -88, 0), (side * 33, -90, -190)], (17, 21, 25))
        scene.fill(back.within(scene.cavity - 22).within(y + 62), muscle)
        course = [(side * 26, -42, 25), (side * 39, -42, -60), (side * 56, -28, -170)]
        psoas = tube(grid, course, np.array([7, 18, 25]) + 2 * subject.latents.girth)
        scene.fill(psoas.roughen(grid, noise, 1), muscle)
        lumborum = tube(grid, [(side * 66, -66, 0), (side * 72, -66, -110)], (10, 13))
        scene.fill(lumborum.roughen(grid, noise, 1), muscle)
        wing = ellipsoid(grid, (side * 104, -40, -172), (9, 52, 62), (0, side * 0.5, side * 0.55))
        scene.fill(wing, 420.0)
        scene.fill(Solid(wing.box, wing.distance + 3), subject.hu("marrow") + 20)
