"""Writing phantoms: files are complete or absent, and a case that is already there is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ...errors import InputError
from ...files import replacing


def check_request(output_dir: Path, cases: int, shape: Sequence[int], spacing: Sequence[float], workers: int) -> None:
    """Refuse what cannot be written, in one sentence."""
    if cases < 1 or workers < 1:
        raise InputError(f"cases is {cases} and workers is {workers}; both must be at least 1.")
    if len(shape) != 3 or min(shape) < 16:
        raise InputError(f"shape is {tuple(shape)}; give three numbers of voxels, each at least 16.")
    if len(spacing) != 3 or min(spacing) <= 0:
        raise InputError(f"spacing is {tuple(spacing)}; give three positive numbers in mm.")
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file; give a folder to write the cases into.")


def write_all(write: Callable[[int], None], numbers: Sequence[int], workers: int) -> None:
    """Call `write` for every case number, in `workers` processes."""
    if workers <= 1:
        show_progress(map(write, numbers), len(numbers))
        return
    with ProcessPoolExecutor(workers) as pool:
        show_progress(pool.map(write, numbers), len(numbers))


def show_progress(written: Iterable[None], cases: int) -> None:
    """Exhaust an iterator behind a progress bar."""
    list(tqdm(written, total=cases, desc="phantoms", unit="case"))


def case_header(shape: Sequence[int], spacing: Sequence[float], description: str) -> nib.Nifti1Header:
    """The header by which a written case is recognised; `description` names generator, version, seed and index."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_zooms(spacing)
    header["descrip"] = description
    return header


def is_same(path: Path, header: nib.Nifti1Header) -> bool:
    """Whether an image exists with this description, shape and spacing (those of a volume, for several channels)."""
    try:
        found = nib.load(path).header
    except (OSError, EOFError, nib.filebasedimages.ImageFileError):
        return False
    same_shape = found.get_data_shape()[:3] == header.get_data_shape()
    same_grid = same_shape and found.get_zooms()[:3] == header.get_zooms()
    return same_grid and found["descrip"].item() == header["descrip"].item()


def save_nifti(array: NDArray, header: nib.Nifti1Header, path: Path) -> None:
    """Write (H, W, D) or (H, W, D, C) beside `path` and rename; the centre of the grid is the origin."""
    spacing, shape = np.asarray(header.get_zooms(), float), np.asarray(array.shape[:3])
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (shape - 1) / 2
    header = header.copy()
    header.set_data_dtype(array.dtype)
    header.set_xyzt_units("mm")
    with replacing(path) as partial_path:
        nib.save(nib.Nifti1Image(array, affine, header), partial_path)
