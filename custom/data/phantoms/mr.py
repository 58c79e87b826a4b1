"""Synthetic brain MR in four contrasts with a glioma, and writers in the layouts of MSD Task01 and of BraTS.

A patient is a head in millimetres; a grid only samples it, so that any shape and spacing shows the same anatomy.
Nothing in here is clinical data, and nothing measured on it is a clinical result.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files import replacing
from ..contrasts import CONTRASTS, NEW_NAMES, OLD_NAMES
from .files import case_header, check_request, is_same, save_nifti, write_all
from .mr_anatomy import blend
from .mr_head import Head
from .mr_lesions import paint_lookalikes
from .mr_scanner import TISSUES, Scanner
from .mr_tumour import Tumour

__all__ = ["CONTRASTS", "generate_mr", "write_brats", "write_msd"]

SHAPE = (80, 96, 80)
SPACING = (2.0, 2.0, 2.0)
VERSION = 1  # counts the changes to the generator that change its images

MSD_DATASET = {
    "name": "BRATS",
    "description": "synthetic gliomas in brain MR, in the layout of MSD Task01",
    "tensorImageSize": "4D",
    "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
    "labels": {"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"},
}
# By year: the name of a case, of its contrasts in the order of CONTRASTS, and the numbers of MSD's labels 0 to 3.
BRATS = {
    2021: ("BraTS2021_{:05d}", "_", OLD_NAMES, (0, 2, 1, 4)),
    2023: ("BraTS-GLI-{:05d}-000", "-", NEW_NAMES, (0, 2, 1, 3)),
}

Files = dict[Path, NDArray]


def generate_mr(
    seed: int, index: int, shape: Sequence[int] = SHAPE, spacing: Sequence[float] = SPACING
) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Patient `index` of population `seed`: image (H, W, D, 4) int16 in the order of CONTRASTS, label (H, W, D) uint8.

    Labels are those of MSD Task01: 1 oedema, 2 non-enhancing core, 3 enhancing. Axes run to the patient's right, front
    and head (RAS); `spacing` is in mm. The image is skull-stripped: 0 outside the brain, at least 1 inside. The result
    depends on the arguments alone. Grids of about 160 x 192 x 160 mm hold the brain; noise and partial volume belong
    to the grid, all else to the patient.
    """
    head = Head(seed, index)
    grid = head.grid(tuple(shape), tuple(spacing))
    mask = head.envelope(grid.points.reshape(3, -1)).reshape(shape) < 0
    points = grid.points[:, mask]  # (3, n)
    tumour, scanner = Tumour(head), Scanner(head)
    brain = tumour.brain(points, float(np.prod(spacing)) ** (1 / 3))
    layers = [*brain.layers(), *paint_lookalikes(brain)]
    solid = blend(layers, {tissue: tissue not in ("csf", "cavity", "vessel") for tissue in TISSUES})[0]
    tumour_layers, found = tumour.layers(brain, points, solid)
    label = np.zeros(shape, np.uint8)
    label[mask] = found
    return scanner.scan(blend(layers + tumour_layers, scanner.table()), mask, grid.axes), label


def write_msd(
    output_dir: Path,
    cases: int,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
    spacing: Sequence[float] = SPACING,
    workers: int = 2,
) -> None:
    """Write `cases` patients as imagesTr/BRATS_NNN.nii.gz (H, W, D, 4), labelsTr/BRATS_NNN.nii.gz and dataset.json.

    A case that is already there with the same parameters is kept. Every file is complete or absent.

    Raises:
        InputError: for a count, shape, spacing or folder that cannot be used.
    """
    output_dir = Path(output_dir)
    check_request(output_dir, cases, shape, spacing, workers)
    numbers = range(1, cases + 1)
    write = partial(write_case, partial(msd_files, output_dir), seed, tuple(shape), tuple(spacing))
    write_all(write, numbers, workers)
    names = [f"BRATS_{number:03d}.nii.gz" for number in numbers]
    training = [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]
    record = MSD_DATASET | {"numTraining": cases, "numTest": 0, "training": training, "test": []}
    with replacing(output_dir / "dataset.json") as path:
        path.write_text(json.dumps(record, indent=2) + "\n")


def write_brats(
    output_dir: Path,
    cases: int,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
    spacing: Sequence[float] = SPACING,
    workers: int = 2,
    year: int = 2021,
) -> None:
    """Write `cases` patients as folders of BraTS 2021 or 2023: one file for each contrast, and one for the labels.

    2021 has 1 necrotic core, 2 oedema and 4 enhancing tumour, 2023 has 3 for the last.

    Raises:
        InputError: as `write_msd`, and for another year.
    """
    output_dir = Path(output_dir)
    check_request(output_dir, cases, shape, spacing, workers)
    if year not in BRATS:
        raise InputError(f"year is {year}; the layouts of BraTS that can be written are 2021 and 2023.")
    write = partial(write_case, partial(brats_files, output_dir, year), seed, tuple(shape), tuple(spacing))
    write_all(write, range(1, cases + 1), workers)


def msd_files(output_dir: Path, number: int, image: NDArray, label: NDArray) -> Files:
    """What is written for one case in MSD's layout."""
    name = f"BRATS_{number:03d}.nii.gz"
    return {output_dir / "labelsTr" / name: label, output_dir / "imagesTr" / name: image}


def brats_files(output_dir: Path, year: int, number: int, image: NDArray, label: NDArray) -> Files:
    """What is written for one case in the layout of BraTS."""
    case, joint, suffixes, values = BRATS[year]
    stem = f"{(name := case.format(number))}{joint}"
    arrays = {"seg": np.asarray(values, np.uint8)[label]}
    arrays |= {suffix: image[..., channel] for channel, suffix in enumerate(suffixes)}
    return {output_dir / name / f"{stem}{suffix}.nii.gz": array for suffix, array in arrays.items()}


def write_case(
    files_of: Callable[[int, NDArray, NDArray], Files],
    seed: int,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    number: int,
) -> None:
    """Write one case unless the headers of all its files say that it was made with the same parameters."""
    header = case_header(shape, spacing, f"mr phantom v{VERSION} seed {seed} index {number}")
    nothing = np.zeros((1, 1, 1, len(CONTRASTS)), np.int16), np.zeros((1, 1, 1), np.uint8)
    if all(is_same(path, header) for path in files_of(number, *nothing)):
        return
    for path, array in files_of(number, *generate_mr(seed, number, shape, spacing)).items():
        save_nifti(array, header, path)
