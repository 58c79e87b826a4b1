"""Write synthetic patients to disk: python -m scripts.phantoms ct --cases 30 --out DIR; mr and cxr are others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from custom.data.phantoms import ct as abdomen
from custom.data.phantoms import cxr as chest
from custom.data.phantoms import mr as brain
from custom.data.phantoms.cxr_files import write_nih
from custom.errors import InputError, explain_errors

from .command_line import run_command_line

MR_LAYOUTS = {
    "msd": brain.write_msd,
    "brats2021": partial(brain.write_brats, year=2021),
    "brats2023": partial(brain.write_brats, year=2023),
}


def ct(
    out: str,
    cases: int = 30,
    seed: int = 0,
    shape: Sequence[int] = abdomen.SHAPE,
    spacing: Sequence[float] = abdomen.SPACING,
    workers: int = 2,
) -> None:
    """Abdominal CT with 13 organs in BTCV's layout and numbering.

    Args:
        out: folder to write imagesTr and labelsTr into.
        cases: number of patients; 30 carry BTCV's own numbers.
        seed: population.
        shape: voxels along each axis.
        spacing: voxel size in mm.
        workers: processes.
    """
    abdomen.write_btcv(Path(out), cases, seed=seed, shape=shape, spacing=spacing, workers=workers)


def mr(
    out: str,
    cases: int = 30,
    seed: int = 0,
    shape: Sequence[int] = brain.SHAPE,
    spacing: Sequence[float] = brain.SPACING,
    workers: int = 2,
    layout: str = "msd",
) -> None:
    """Brain MR in four contrasts with a glioma.

    Args:
        out: folder to write the cases into.
        cases: number of patients.
        seed: population.
        shape: voxels along each axis.
        spacing: voxel size in mm.
        workers: processes.
        layout: msd (Task01: one file with four channels), brats2021 or brats2023 (a folder for each case).
    """
    if layout not in MR_LAYOUTS:
        raise InputError(f"layout is {layout}; choose one of {', '.join(MR_LAYOUTS)}.")
    MR_LAYOUTS[layout](Path(out), cases, seed=seed, shape=shape, spacing=spacing, workers=workers)


def cxr(
    out: str,
    patients: int = 300,
    seed: int = 0,
    shape: Sequence[int] = chest.SHAPE,
    workers: int = 2,
) -> None:
    """Chest X-rays with the 14 findings of ChestX-ray14, in its layout.

    Args:
        out: folder to write images, Data_Entry_2017.csv and the lists into.
        patients: number of patients; each has 1 to 8 images.
        seed: population.
        shape: height and width in pixels.
        workers: processes.
    """
    write_nih(Path(out), patients, seed=seed, shape=shape, workers=workers)


if __name__ == "__main__":
    explain_errors()
    run_command_line({"ct": ct, "mr": mr, "cxr": cxr})
