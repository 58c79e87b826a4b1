"""From line integrals to a picture: Beer-Lambert's law, scatter, quantum noise, and how a console displays it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from .cxr_cases import Visit
from .cxr_marks import add_marks, shutter
from .cxr_rays import Film

SCATTER_MM = 26.0  # how far scattered rays stray
DETAIL_MM = 11.0  # consoles flatten what is larger and enhance what is smaller


def develop(film: Film, visit: Visit) -> NDArray[np.uint8]:
    """The image (H, W), bone bright."""
    attenuation = visit.uniform("beam", 0.0170, 0.0200) * np.maximum(film.total, 0)  # per mm of soft tissue
    primary = np.exp(-attenuation)
    ratio = visit.uniform("scatter", 0.2, 0.5) * (1.7 if visit.portable else 1.0)
    signal = primary + ratio * gaussian_filter(primary, SCATTER_MM / film.pixel, truncate=2)
    quanta = visit.uniform("dose", 10000, 50000) * (0.6 if visit.portable else 1.0) * film.pixel**2
    noise = visit.rng("noise").standard_normal(signal.shape, np.float32)
    signal += np.sqrt(signal / quanta) * noise  # Poisson's law for many quanta
    density = -np.log(np.maximum(signal, 1e-3)).astype(np.float32)
    return display(density, visit, film.pixel)


def display(density: NDArray[np.float32], visit: Visit, pixel: float) -> NDArray[np.uint8]:
    """Flatten large differences, enhance small ones, choose a window from the image itself, and bend the curve."""
    smooth = gaussian_filter(density, DETAIL_MM / pixel, truncate=2)
    density = visit.uniform("flatten", 0.6, 0.85) * smooth + visit.uniform("detail", 1.2, 1.9) * (density - smooth)
    open_ = shutter(density.shape, visit)
    body = density[open_ & (smooth > 0.7)]
    low, high = np.percentile(body, [visit.uniform("black", 1, 5), visit.uniform("white", 98, 99.9)])
    low -= visit.uniform("toe", 0.2, 0.7) * (high - low)
    level = np.clip((density - low) / (high - low), 0, 1) ** (
        visit.uniform("gamma", 0.9, 1.4) * (0.8 if visit.portable else 1.0)
    )
    level = open_ * level * visit.uniform("brightness", 0.88, 1.0)
    add_marks(level, visit, pixel)
    return np.rint(255 * level).astype(np.uint8)
