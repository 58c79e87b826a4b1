"""What is refused before it goes wrong later without a reason being given; voxels may be checked a part at a time."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from monai.data.utils import correct_nifti_header_if_necessary
from nibabel import Nifti1Header, Nifti1Image, Nifti2Header
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ..errors import InputError

READ_ERRORS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, RuntimeError, zlib.error)
# Share of a voxel by which a label's geometry may differ from its image's: rounding in a header, not a shift.
AFFINE_TOLERANCE = 1e-3
DEFLATE = 1032  # the most bytes that one byte of a gzip file can stand for
# What is larger is a damaged header, or data meant to fill the memory: 2 GiB held as float32, slices of 8192 x 8192.
MOST_VOXELS, MOST_IN_SLICE = 2**29, 2**26
LARGEST_HEADER = 2**26  # bytes, with extensions, which nibabel reads at once


def check_header(path: Path, in_channels: int = 1, whole: bool = False) -> None:
    """Check what can be known without reading voxels: the format, voxel type, axes, channels, affine and spacing.

    `whole`: that all voxels can be held at once, too.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; correct the path")
    try:
        raw = raw_header(path)
        held = path.stat().st_size * (DEFLATE if path.suffix.lower() == ".gz" else 1)
        volume = nibabel.load(path) if 0 <= raw["vox_offset"] <= min(held, LARGEST_HEADER) else None
    except Exception as error:  # nibabel raises many kinds of errors for files that are not NIfTI
        raise InputError(f"{path} is not a readable NIfTI file; export it again as .nii or .nii.gz") from error
    if volume is None or prod(volume.shape) * volume.get_data_dtype().itemsize > held:
        raise truncated(path)
    if volume.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} stores voxels of type {volume.get_data_dtype()}; convert it to plain numbers")
    check_shape(volume.shape, in_channels, path)
    if whole:
        check_size(volume.shape, path, "to be held at once")
    if raw["sform_code"] == 0:
        check_spacing(raw["pixdim"][1:4], path)
    check_affine(volume.affine, path)
    check_forms(volume, path)


def raw_header(path: Path) -> Nifti1Header | Nifti2Header:
    """The header as it is; nibabel itself silently replaces a zero spacing by 1 mm."""
    with ImageOpener(path) as file:
        block = file.read(Nifti2Header.sizeof_hdr)
    sizes = (int.from_bytes(block[:4], order) for order in ("little", "big"))
    kind = Nifti2Header if Nifti2Header.sizeof_hdr in sizes else Nifti1Header
    return kind(block[: kind.sizeof_hdr], check=False)


def truncated(path: str | Path) -> InputError:
    """For a file that holds less than its header says, or something else."""
    return InputError(f"{path} is truncated or damaged; copy or download it again")


def check_size(shape: Sequence[int], path: Path, where: str) -> None:
    """So many voxels can be held in memory; sizes below 1 are what is left of an overflow."""
    if min(shape) < 1 or prod(shape) > MOST_VOXELS:
        raise InputError(
            f"{path} has more than {MOST_VOXELS:,} voxels {where}; correct the shape and voxel sizes in its header, or "
            "crop it"
        )


def check_shape(shape: tuple[int, ...], in_channels: int, path: Path) -> None:
    """Three axes and, for more than one channel, a fourth that holds them; further axes must have length 1."""
    spatial, rest = shape[:3], list(shape[3:])
    while rest and rest[-1] == 1:
        rest.pop()
    if len(spatial) < 3 or min(shape) < 1:
        raise InputError(f"{path} has shape {shape} where a 3D volume is due; give a volume (H, W, D)")
    if shape[0] * shape[1] > MOST_IN_SLICE:
        raise InputError(f"{path} has slices of {shape[0]} x {shape[1]} voxels, too large to be held; crop it")
    channels = rest[0] if rest else 1
    if channels != in_channels or len(rest) > 1:
        wanted = "(H, W, D)" if in_channels == 1 else f"(H, W, D, {in_channels})"
        raise InputError(
            f"{path} has shape {shape} where {wanted} with in_channels {in_channels} is due; "
            "give one file with these channels, or the folder that holds one file a channel"
        )


def check_spacing(spacing: np.ndarray, path: Path) -> None:
    """Every voxel size in the header is a positive number (mm)."""
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        sizes = ", ".join(f"{size:g}" for size in spacing)
        raise InputError(f"{path} has the voxel spacing {sizes} mm; write the true spacing into its header")


def check_affine(affine: np.ndarray, path: Path) -> None:
    """The affine (4, 4) is finite and can be inverted."""
    if not np.isfinite(affine).all():
        raise InputError(f"{path} has an affine with NaN or infinite entries; write a valid sform or qform")
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    if not sizes.all() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-6:
        raise InputError(
            f"{path} has a singular affine (an axis of zero length or two parallel ones); repair its sform"
        )


def check_forms(volume: Nifti1Image, path: Path) -> None:
    """MONAI reads the affine that nibabel does: it takes the qform, of whatever code, if only that fits the pixdim."""
    affine = volume.affine.copy()
    try:
        difference = np.abs(correct_nifti_header_if_necessary(volume).affine - affine).max()
    except READ_ERRORS:
        difference = np.inf
    if not difference <= AFFINE_TOLERANCE * np.linalg.norm(affine[:3, :3], axis=0).min():
        raise InputError(
            f"{path} has other voxel sizes in its header (pixdim) than in its sform, so that programs disagree about "
            "where its voxels are; write the true ones into both"
        )


class IntensityCheck:
    """Voxels are finite and not all the same, whatever the parts they come in."""

    def __init__(self) -> None:
        self.bad, self.low, self.high = 0, np.inf, -np.inf

    def add(self, voxels: NDArray) -> None:
        """Look at some voxels, of any number type."""
        low, high = float(voxels.min()), float(voxels.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            self.bad += int(voxels.size - np.isfinite(voxels).sum())
        self.low, self.high = min(self.low, low), max(self.high, high)

    def finish(self, path: Path) -> None:
        """InputError where what was added is no image."""
        if self.bad:
            raise InputError(f"{path} has {self.bad} NaN or infinite voxels; replace them, for CT by -1024")
        if not np.isfinite(np.float32(self.high - self.low)):
            raise InputError(f"{path} has values from {self.low:g} to {self.high:g}, too far apart; scale them")
        if self.low == self.high:
            raise InputError(
                f"{path} has no foreground, every voxel is {self.low:g}; leave this case out or replace it"
            )


class LabelCheck:
    """Ids are whole numbers in range, whatever the parts they come in."""

    def __init__(self) -> None:
        self.whole, self.low, self.high = True, np.inf, -np.inf

    def add(self, ids: NDArray) -> None:
        """Look at some voxels, of any number type."""
        if ids.dtype.kind == "f":
            self.whole = self.whole and bool(np.isfinite(ids).all() and (ids == np.rint(ids)).all())
        self.low, self.high = min(self.low, ids.min()), max(self.high, ids.max())

    def finish(self, path: Path, num_classes: int | None = None) -> torch.dtype:
        """The type that holds the ids, uint8, or int32 where they exceed 255; InputError where they are no labels."""
        if not self.whole:
            raise InputError(f"label {path} has values that are not whole numbers; save it as an integer label map")
        low, high = int(self.low), int(self.high)
        if low < 0 or (num_classes is not None and high >= num_classes):
            limit = "" if num_classes is None else f" to {num_classes - 1}"
            raise InputError(
                f"label {path} has ids from {low} to {high} where 0{limit} is allowed; map its ids, or set out_channels"
            )
        return torch.uint8 if high <= 255 else torch.int32


def check_image(image: torch.Tensor, path: Path) -> None:
    """Voxels are finite and not all the same."""
    check = IntensityCheck()
    check.add(np.asarray(image))
    check.finish(path)


def integer_label(label: MetaTensor, path: Path, num_classes: int | None = None) -> MetaTensor:
    """The label map as uint8, or int32 where ids exceed 255, after checking that ids are whole and in range."""
    check = LabelCheck()
    check.add(np.asarray(label))
    return label.to(check.finish(path, num_classes))


def check_same_grid(image: MetaTensor, label: MetaTensor, path: Path, other: str = "that of its image") -> None:
    """The volume of `path` has the image's shape in its file, and its affine to within a thousandth of a voxel."""
    shape, expected = (tuple(int(size) for size in volume.meta["spatial_shape"]) for volume in (label, image))
    if shape != expected:
        raise InputError(f"{path} has shape {shape}, {other} is {expected}; resample it to that grid")
    affine = np.asarray(image.affine)
    difference = np.abs(np.asarray(label.affine) - affine).max()
    voxel = np.linalg.norm(affine[:3, :3], axis=0).min()
    if difference > AFFINE_TOLERANCE * voxel:
        raise InputError(
            f"{path} has another affine than {other} (entries differ by up to {difference:.3g} mm); "
            "resample it to that grid or copy that affine"
        )
