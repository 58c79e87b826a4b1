"""Synthetic chest X-rays with the 14 findings of ChestX-ray14, placed in a 3D chest and projected.

A patient is a chest in millimetres; an image adds a breath, a pose, a machine and the day's findings. Nothing in here
is clinical data, and nothing measured on it is a clinical result.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .cxr_bones import add_bones
from .cxr_cases import Patient, Visit
from .cxr_chest import Chest
from .cxr_detector import develop
from .cxr_devices import devices
from .cxr_findings import add_findings
from .cxr_lungs import Lungs
from .cxr_rays import Film, Tubes
from .cxr_surface import add_body
from .cxr_vessels import airway, lung_tubes

__all__ = ["SHAPE", "VERSION", "phantom_cxr", "pixel_mm", "render"]

SHAPE = (256, 256)
VERSION = 1  # counts the changes to the generator that change its images
SAMPLES = 128  # of the rays along the longer axis of an image, at most


def phantom_cxr(
    seed: int, patient: int, image: int = 0, shape: Sequence[int] = SHAPE
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Image `image` of patient `patient` of population `seed`: (H, W) uint8, bone bright, and its reported findings.

    The patient's right is on the left. The findings are a subset of `custom.data.nih.FINDINGS` in its order, 7 % of
    them wrong; `Visit.present` holds the true ones. Images of one patient share the anatomy. The result depends on the
    arguments alone; `shape` changes sharpness and noise, not what is shown.
    """
    visit = Visit(Patient(seed, patient), image)
    return render(visit, shape), visit.reported


def pixel_mm(visit: Visit, shape: Sequence[int]) -> float:
    """Width of a pixel in the plane of the chest's centre, mm."""
    return float(np.exp(visit.normal("field of view", 0.05)) * 372 / max(shape))


def render(visit: Visit, shape: Sequence[int] = SHAPE) -> NDArray[np.uint8]:
    """The image (H, W) of a visit."""
    return develop(expose(visit, shape), visit)


def expose(visit: Visit, shape: Sequence[int] = SHAPE) -> Film:
    """What the rays of a visit pass through, without the machine's part in the image."""
    shape = (int(shape[0]), int(shape[1]))
    chest, pixel = Chest(visit), pixel_mm(visit, shape)
    samples = tuple(int(np.ceil(n / max(1.0, max(shape) / SAMPLES))) for n in shape)
    rays = chest.rays(samples, pixel * shape[0] / samples[0])
    film, lungs = Film(shape, pixel, rays), Lungs(chest, rays)
    add_findings(lungs)
    film.add_volume(-lungs.air)
    film.add_tubes(Tubes.join([lung_tubes(chest, lungs), *airway(chest), *devices(chest)]))
    add_bones(film, chest)
    add_body(film, chest)
    return film
