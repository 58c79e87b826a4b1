"""What lies on the film but not in the patient: side markers, words, and the edges of the collimator."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import rotate, zoom

from .cxr_cases import Visit

GLYPHS = {
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
    "A": "01110 10001 10001 11111 10001 10001 10001",
    "P": "11110 10001 10001 11110 10000 10000 10000",
    "O": "01110 10001 10001 10001 10001 10001 01110",
    "T": "11111 00100 00100 00100 00100 00100 00100",
    "B": "11110 10001 10001 11110 10001 10001 11110",
    "E": "11111 10000 10000 11110 10000 10000 11111",
}


def word(text: str) -> NDArray[np.float32]:
    """A word as an image (9, 6 n + 3) of zeros and ones with an empty border."""
    letters = [np.array([[int(dot) for dot in row] for row in GLYPHS[letter].split()]) for letter in text]
    rows = np.concatenate([np.pad(letter, ((1, 1), (1, 0))) for letter in letters], axis=1)
    return np.pad(rows, ((0, 0), (0, 2))).astype(np.float32)


def stamp(image: NDArray, mark: NDArray, height: float, row: float, column: float) -> None:
    """Put a mark `height` pixels high on `image` (H, W) with its centre at a share of the rows and columns."""
    mark = np.clip(zoom(mark, max(height / mark.shape[0], 0.3), order=1), 0, 1)
    top, left = int(row * image.shape[0] - mark.shape[0] / 2), int(column * image.shape[1] - mark.shape[1] / 2)
    top, left = max(top, 0), max(left, 0)
    part = image[top : top + mark.shape[0], left : left + mark.shape[1]]
    part += (1.0 - part) * mark[: part.shape[0], : part.shape[1]]


def add_marks(level: NDArray, visit: Visit, pixel: float) -> None:
    """Mark a side on an image (H, W) of levels 0..1, and some portable images with a word."""
    rng = visit.rng("marks")
    side = "L" if rng.random() < 0.65 else "R"
    mark = rotate(word(side), rng.choice((0, 0, 15, -15, 90)) + rng.normal(0, 5), order=1)
    column = (0.94 if side == "L" else 0.06) + rng.uniform(-0.03, 0.02)
    stamp(level, mark, rng.uniform(14, 22) / pixel, rng.uniform(0.04, 0.16), column)
    if visit.portable and rng.random() < 0.6:
        text = "AP" if rng.random() < 0.5 else "PORTABLE"
        stamp(level, word(text), 8 / pixel, rng.choice((0.05, 0.93)), rng.uniform(0.15, 0.8))


def shutter(shape: tuple[int, int], visit: Visit) -> NDArray[np.bool_]:
    """Where (H, W) the collimator lets X-rays through: nearly all of the film, sometimes less and slanted."""
    rng = visit.rng("shutter")
    margin = np.where(rng.random(4) < 0.25, rng.uniform(0, 0.09, 4), -0.1)
    tilt = rng.normal(0, 0.02)
    row, column = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    row, column = row + tilt * (column - 0.5), column - tilt * (row - 0.5)
    return (row > margin[0]) & (row < 1 - margin[1]) & (column > margin[2]) & (column < 1 - margin[3])
