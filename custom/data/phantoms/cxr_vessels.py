"""The vessels of the lungs: trees that grow from the hila to points all over the lungs."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .cxr_chest import SIDES, Chest, collapse
from .cxr_lungs import Lungs
from .cxr_rays import Tubes, curve
from .shapes import mm
from .subject import Streams

LEAVES = 240  # ends of a lung's tree
LEAF_MM = 1.05  # radius of a tree's ends
MURRAY = 2.4  # exponent with which radii add up at a fork
SCALE = np.array([62, 85, 200.0])  # half a lung's width and depth, and its height, mm
ROUNDS = 16  # in which the ends join the tree, the nearest first
STEP_MM = 14.0  # between two nodes
DIRECT = 0.3  # weight of the way to the root; with 1 each end would go straight there
# The hilum, the trunk to the base, and the trunk to the apex, in a unit lung.
TRUNK = np.array(
    [(-0.8, -0.1, 0.52), (-0.62, -0.15, 0.45), (-0.5, -0.2, 0.36), (-0.4, -0.3, 0.27), (-0.65, 0, 0.6), (-0.5, 0, 0.7)]
)
PARENTS = (-1, 0, 1, 2, 0, 4)
BESIDE = mm(0, 3, 4)  # from a vessel to its bronchus


@lru_cache(maxsize=16)
def grow(seed: int, index: int, name: str) -> tuple[NDArray, NDArray, NDArray]:
    """A patient's tree in a unit lung: nodes (n, 3), parents (n,), and how many ends lie below each (n,).

    Nodes are across the lung and to the front, both -1..1, and up, 0..1. Each end joins the tree where the way is
    short, both to the tree and on to the root.
    """
    rng = Streams(seed, index).rng(f"cxr {name}")
    nodes, parents = TRUNK * SCALE, np.array(PARENTS)
    way = np.zeros(len(nodes))  # to the root, mm
    for node in range(1, len(nodes)):
        way[node] = way[parents[node]] + np.linalg.norm(nodes[node] - nodes[parents[node]])
    for group in np.array_split(ends(rng, nodes[0]), ROUNDS):
        gap = np.linalg.norm(group[:, None] - nodes, axis=2)  # (ends, nodes)
        joint = np.argmin(gap + DIRECT * way, axis=1)
        reach = gap[np.arange(len(group)), joint]
        count = np.clip(reach / STEP_MM, 1, 16).astype(int)
        owner = np.repeat(np.arange(len(group)), count)
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + 1
        share, start = (step / count[owner])[:, None], nodes[joint[owner]]
        path = start + share * (group[owner] - start) + rng.normal(0, 1.5, start.shape) * (share < 1)
        parents = np.append(parents, np.where(step == 1, joint[owner], len(nodes) + np.arange(len(owner)) - 1))
        way = np.append(way, way[joint[owner]] + share[:, 0] * reach[owner])
        nodes = np.concatenate([nodes, path])
    return smooth(nodes, parents) / SCALE, parents, leaves_below(parents)


def ends(rng: np.random.Generator, root: NDArray) -> NDArray:
    """Where the branches of a tree end (LEAVES, 3), all over an upright cylinder in mm, the nearest to `root` first."""
    angle, radius = rng.uniform(0, 2 * np.pi, LEAVES), np.sqrt(rng.uniform(0, 0.94, LEAVES))
    found = np.stack([radius * np.cos(angle), radius * np.sin(angle), rng.uniform(0.0, 0.97, LEAVES)], axis=1) * SCALE
    return found[np.argsort(np.linalg.norm(found - root, axis=1))]


def smooth(nodes: NDArray, parents: NDArray) -> NDArray:
    """The nodes (n, 3) moved towards their neighbours, so that branches leave in curves."""
    moved, count = nodes[parents] * (parents >= 0)[:, None], (parents >= 0).astype(float)
    np.add.at(moved, parents[1:], nodes[1:])
    np.add.at(count, parents[1:], 1)
    inner = count > 1
    inner[0] = False
    return np.where(inner[:, None], 0.5 * nodes + 0.5 * moved / count[:, None], nodes)


def leaves_below(parents: NDArray) -> NDArray:
    """How many ends (n,) of a tree lie below each node; a node comes after its parent."""
    below = np.ones(len(parents))
    below[parents[1:]] = 0
    for node in range(len(parents) - 1, 0, -1):
        below[parents[node]] += below[node]
    return below


def lung_points(chest: Chest, side: int, unit: NDArray) -> NDArray:
    """Anatomy mm (n, 3) of points (n, 3) in a unit lung."""
    low = chest.dome[side] - 22
    z = low + unit[:, 2] * (chest.apex - low)
    inner, outer, depth, front = chest.profile(z)
    x = side * ((inner + outer) / 2 + unit[:, 0] * (outer - inner) / 2) + chest.spine(z)
    x += chest.shift * np.clip(1 - np.abs(unit[:, 0] + 1) / 1.2, 0, 1)
    return np.stack([x, front + unit[:, 1] * depth, z], axis=1)


def tree(chest: Chest, side: int, kind: str) -> Tubes:
    """The arteries or the veins of one lung."""
    nodes, parents, below = grow(*chest.visit.patient.key, f"{kind} {side}")
    places = lung_points(chest, side, nodes)
    radius = np.minimum(LEAF_MM * below ** (1 / MURRAY), 9.0)
    start, end = places[parents[1:]], places[1:]
    length = np.linalg.norm(end - start, axis=1)
    count = np.maximum(1, np.ceil(length / 1.5)).astype(int)
    owner = np.repeat(np.arange(len(length)), count)
    share = (np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[owner]
    points = start[owner] + share[:, None] * (end - start)[owner]
    return Tubes(points, radius[1:][owner], (length / count)[owner], np.ones(len(owner)))


def airway(chest: Chest) -> list[Tubes]:
    """Trachea and main bronchi."""
    fork = mm(chest.shift * 0.7, -8, chest.apex - 78)
    parts = [curve([(0, 12, 220), (1, 4, 130), fork + mm(2, 2, 20), fork], 7.0, -0.9)]
    for side in SIDES:
        end = chest.place(side, -0.75, -0.1, 0.55)
        parts.append(curve([fork, (fork + end) / 2 + mm(0, 0, 3), end], (6.5, 6, 5), -0.8))
    return parts


def lung_tubes(chest: Chest, lungs: Lungs) -> Tubes:
    """Vessels, bronchi and the lines of disease in both lungs, with what they add to the attenuation.

    A vessel shows as far as there is air around it, the air in a bronchus as far as there is none.
    """
    trees = Tubes.join([tree(chest, side, kind) for side in SIDES for kind in ("arteries", "veins")])
    vessels = engorged(chest, trees)
    lines = Tubes.join([vessels, *interstitial(chest)])
    lines = lines.weighted(lungs.at(lungs.air * (1 - lungs.gas), lines.points))
    wide = trees.radius > 1.7
    bronchi = Tubes(trees.points[wide] + BESIDE, 0.75 * trees.radius[wide], trees.length[wide], -trees.weight[wide])
    return Tubes.join([lines, bronchi.weighted(lungs.at(lungs.space - lungs.air, bronchi.points).clip(0))])


def engorged(chest: Chest, trees: Tubes) -> Tubes:
    """The vessels as disease leaves them: wide in heart failure, above all in the upper halves; thin in emphysema."""
    upper = np.clip((trees.points[:, 2] + 20) / 100, 0, 1)
    wide = 1 + chest.visit.severity("Edema") * (0.2 + 0.35 * upper) - 0.35 * chest.ill["Emphysema"]
    points = trees.points
    if severity := chest.ill["Pneumothorax"]:
        root, scale = collapse(chest, severity)
        moved = chest.side("Pneumothorax") * points[:, :1] > 0
        points = np.where(moved, root + scale * (points - root), points)
    return Tubes(points, trees.radius * wide, trees.length, trees.weight)


def interstitial(chest: Chest) -> list[Tubes]:
    """Septal lines at the edge of both bases in oedema, and the net of fibrosis."""
    patient, lines = chest.visit.patient, []
    if severity := chest.visit.severity("Edema"):
        lines.append(net(chest, patient.rng("cxr septa"), int(110 * severity**0.7), 0.8, mm(1, 0.5, 0.12)))
    if severity := chest.visit.severity("Fibrosis"):
        lines.append(net(chest, patient.rng("cxr net"), int(1800 * severity**0.7), 1.8, mm(1, 0.6, 1)))
    return lines


def net(chest: Chest, rng: np.random.Generator, count: int, radius: float, along: NDArray) -> Tubes:
    """`count` bent lines near the wall, more at the bases; `along` scales their direction."""
    inward, angle = np.exp(-rng.exponential(0.2, count)), rng.uniform(0, 2 * np.pi, count)
    unit = np.stack([inward * np.cos(angle), inward * np.sin(angle), rng.beta(1.1, 3.2, count)], axis=1)
    side = rng.random(count) < 0.5
    middle = np.where(side[:, None], *(lung_points(chest, side, unit) for side in SIDES))
    step, bend = rng.normal(0, 5, (count, 3)) * along, rng.normal(0, 2.5, (count, 3))
    share = np.linspace(-1, 1, 9)[:, None, None]
    points = (middle + share * step + (1 - share**2) * bend).reshape(-1, 3)
    length = np.repeat(np.linalg.norm(step, axis=1)[None] / 4.5, 9, axis=0).ravel()
    return Tubes(points, np.full(len(points), radius), length, np.ones(len(points)))
