"""Synthetic abdominal CT with the 13 organs of BTCV, and a writer in BTCV's own layout.

A patient is a body in millimetres driven by a few shared latents; a grid only samples it, so that any shape and spacing
shows the same patient. Nothing in here is clinical data, and nothing measured on it is a clinical result.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from .ct_body import AIR_HU, Scene, paint_body
from .ct_bowel import paint_bowel
from .ct_organs import ORGANS, Anchors, paint_organs
from .ct_vessels import paint_vessels
from .files import case_header, check_request, is_same, save_nifti, write_all
from .subject import Subject

__all__ = ["ORGANS", "btcv_numbers", "generate_ct", "write_btcv"]

SHAPE = (160, 136, 100)
SPACING = (2.5, 2.5, 3.0)
VERSION = 2  # counts the changes to the generator that change its images


def generate_ct(
    seed: int, index: int, shape: Sequence[int] = SHAPE, spacing: Sequence[float] = SPACING
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Patient `index` of population `seed`: image in HU (H, W, D) int16 and labels 0..13 (H, W, D) uint8.

    Axes run to the patient's right, front and head (RAS); `spacing` is in mm. The result depends on the arguments
    alone. Grids of about 400 x 340 x 300 mm show the abdomen; noise and partial volume belong to the grid, all else to
    the patient.
    """
    subject = Subject(seed, index)
    scene = Scene(subject, subject.grid(tuple(shape), tuple(spacing)))
    paint_body(scene)
    paint_bowel(scene)
    anchors = Anchors(scene)
    paint_organs(scene, anchors)
    paint_vessels(scene, anchors)
    return render(scene), scene.label


def render(scene: Scene) -> NDArray[np.int16]:
    """From tissue to scanner: texture on two scales, partial volume, streaks and correlated noise."""
    subject, axes = scene.subject, scene.grid.axes
    body = scene.hu > -300
    texture = 6.0 * subject.noise("coarse texture", 22)(axes) + 8.0 * subject.noise("fine texture", 7)(axes)
    hu = gaussian_filter(np.where(body, scene.hu + texture, scene.hu), 0.7, mode="nearest")
    rng = subject.rng("scanner")
    level = rng.uniform(18, 38)
    hu += level * correlated_noise(rng, hu.shape) * np.where(body, 1.0, 0.45)
    hu += streaks(rng, hu.shape) * body
    return np.clip(np.rint(hu), AIR_HU - 24, 3071).astype(np.int16)


def correlated_noise(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float32]:
    """Unit-variance noise with the short in-plane correlation of a reconstruction kernel."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (0.75, 0.75, 0.4))
    return noise / noise.std()


def streaks(rng: np.random.Generator, shape: Sequence[int]) -> NDArray[np.float32]:
    """Faint left-right streaks, a few HU, stronger towards the dense bones at both ends of the scan."""
    rows = gaussian_filter1d(rng.standard_normal((1, *shape[1:]), dtype=np.float32), 0.8, axis=1)
    ends = 0.4 + np.abs(np.linspace(-1, 1, shape[2], dtype=np.float32)) ** 2
    return rng.uniform(2, 7) * rows / rows.std() * ends


def btcv_numbers(cases: int) -> list[int]:
    """BTCV's case numbers in its own order: 1 to 10, 21 to 40, then 41 and up."""
    return [number if number <= 10 else number + 10 for number in range(1, cases + 1)]


def write_btcv(
    output_dir: Path,
    cases: int,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
    spacing: Sequence[float] = SPACING,
    workers: int = 2,
) -> None:
    """Write `cases` patients as imagesTr/imgNNNN.nii.gz and labelsTr/labelNNNN.nii.gz in BTCV's layout and numbering.

    A case that is already there with the same parameters is kept. Every file is complete or absent.

    Raises:
        InputError: for a count, shape, spacing or folder that cannot be used.
    """
    output_dir = Path(output_dir)
    check_request(output_dir, cases, shape, spacing, workers)
    for folder in ("imagesTr", "labelsTr"):
        (output_dir / folder).mkdir(parents=True, exist_ok=True)
    write_all(partial(write_case, output_dir, seed, tuple(shape), tuple(spacing)), btcv_numbers(cases), workers)


def write_case(output_dir: Path, seed: int, shape: Sequence[int], spacing: Sequence[float], number: int) -> None:
    """Write one case unless the headers say that it was made with the same parameters."""
    image_path = output_dir / "imagesTr" / f"img{number:04d}.nii.gz"
    label_path = output_dir / "labelsTr" / f"label{number:04d}.nii.gz"
    # The index is the case number: asking for more cases later leaves the earlier ones as they are.
    header = case_header(shape, spacing, f"ct phantom v{VERSION} seed {seed} index {number}")
    if is_same(label_path, header) and is_same(image_path, header):
        return
    image, label = generate_ct(seed, number, shape, spacing)
    save_nifti(label, header, label_path)
    save_nifti(image, header, image_path)
