"""How oedema spreads: shortest travel times over a lattice of tissue speeds."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

LATTICE_MM = 3.0
# How fast oedema spreads through a tissue, in mm of white matter.
SPEED = {"white": 1.0, "stem": 0.5, "grey": 0.22, "deep grey": 0.35, "pallidum": 0.35, "csf": 0.03}


def spread(speed: NDArray, sources: NDArray, limit: float) -> NDArray[np.float32]:
    """Shortest travel time over a lattice (L, L, L) with steps to all 26 neighbours, at most `limit`."""
    numbers = np.arange(speed.size).reshape(speed.shape)
    slow = LATTICE_MM / speed
    rows, columns, costs = [], [], []
    for step in itertools.product((-1, 0, 1), repeat=3):
        if step <= (0, 0, 0):
            continue
        here = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, speed.shape, strict=True))
        there = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, speed.shape, strict=True))
        rows.append(numbers[here].ravel())
        columns.append(numbers[there].ravel())
        costs.append((np.linalg.norm(step) * 0.5 * (slow[here] + slow[there])).ravel())
    edges = (np.concatenate(rows), np.concatenate(columns))
    graph = coo_array((np.concatenate(costs), edges), (speed.size, speed.size)).tocsr()
    time = dijkstra(graph, directed=False, indices=np.flatnonzero(sources), min_only=True, limit=limit)
    return np.minimum(time, limit).reshape(speed.shape).astype(np.float32)
