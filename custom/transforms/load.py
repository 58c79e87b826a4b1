"""Load NIfTI volumes, and refuse with one sentence whatever would go wrong later without a reason being given."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, LoadImaged
from nibabel.filebasedimages import ImageFileError
from nibabel.openers import ImageOpener
from nibabel.spatialimages import HeaderDataError

from ..errors import InputError
from ..files import source_of

READ_ERRORS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, RuntimeError, zlib.error)
# Share of a voxel by which a label's geometry may differ from its image's: rounding in a header, not a shift.
AFFINE_TOLERANCE = 1e-3


class LoadVolumed(LoadImaged):
    """Load 3D NIfTI files as channel-first MetaTensors (C, H, W, D), checked.

    The image is float32, the label an integer tensor (uint8 where its ids fit). Trailing axes of length 1 are dropped;
    `in_channels` > 1 expects a 4D image (H, W, D, C), or a list of 3D files, one a channel.

    Args:
        keys: keys of the file names.
        in_channels: channels the image must have.
        num_classes: label ids must be below it; None leaves them unchecked.
        image_key: the key among `keys` that holds the image; every check of intensities is about it.
        label_key: the key that holds the label map.
        allow_missing_keys: do not fail where a case lacks a key.

    Raises:
        InputError: a missing, truncated or non-NIfTI file; another number of axes or channels; NaN or infinite voxels;
            a constant image; a singular or non-finite affine, a zero spacing; a label, or a channel's file, whose
            shape or affine does not fit; a label with unknown ids.
    """

    def __init__(
        self,
        keys: KeysCollection,
        in_channels: int = 1,
        num_classes: int | None = None,
        image_key: str = "image",
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys,
            reader="NibabelReader",
            ensure_channel_first=True,
            allow_missing_keys=allow_missing_keys,
            squeeze_non_spatial_dims=True,
        )
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.image_key = image_key
        self.label_key = label_key

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Replace file names by volumes; every other key stays as it is."""
        loaded = dict(data)
        files: dict[Hashable, Path] = {}
        for key, postfix in self.key_iterator(loaded, self.meta_key_postfix):
            channels = self.in_channels if key == self.image_key else 1
            files[key], volume = Path(source_of(loaded[key])), self._read(loaded[key], channels, reader)
            # MONAI Label switches image_only off and then expects the metadata beside the volume.
            if not self._loader.image_only:
                volume, loaded[f"{key}_{postfix}"] = volume
            loaded[key] = volume
        return self._checked(loaded, files)

    def _read(self, image: str | Path | Sequence[str | Path], channels: int, reader: Any) -> Any:
        """The volume of one file, or of one file a channel."""
        if isinstance(image, str | Path):
            check_header(Path(image), channels)
            return read_volume(self._loader, Path(image), reader)
        paths = [Path(path) for path in image]
        if len(paths) != channels:
            raise InputError(f"{source_of(paths)} has {len(paths)} files where {channels} are due; set in_channels")
        volumes = []
        for path in paths:
            check_header(path)
            volumes.append(read_volume(self._loader, path, reader))
        return stack_channels(volumes, paths)

    def _checked(self, loaded: dict[Hashable, Any], files: dict[Hashable, Path]) -> dict[Hashable, Any]:
        """Check intensities, label ids and that both lie on the same grid."""
        if self.image_key in files:
            check_image(loaded[self.image_key], files[self.image_key])
        if self.label_key in files:
            path = files[self.label_key]
            loaded[self.label_key] = integer_label(loaded[self.label_key], path, self.num_classes)
            if self.image_key in files:
                check_same_grid(loaded[self.image_key], loaded[self.label_key], path)
        return loaded


def check_header(path: Path, in_channels: int = 1) -> None:
    """Check what can be known without reading voxels: the format, voxel type, axes, channels, affine and spacing."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; correct the path")
    try:
        volume = nibabel.load(path)
        with ImageOpener(path) as file:  # nibabel itself silently replaces a zero spacing by 1 mm
            raw = type(volume.header).from_fileobj(file, check=False)
    except READ_ERRORS as error:
        raise InputError(f"{path} is not a readable NIfTI file; export it again as .nii or .nii.gz") from error
    if volume.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path} stores voxels of type {volume.get_data_dtype()}; convert it to plain numbers")
    check_shape(volume.shape, in_channels, path)
    if raw["sform_code"] == 0:
        check_spacing(raw["pixdim"][1:4], path)
    check_affine(volume.affine, path)


def read_volume(loader: LoadImage, path: Path, reader: Any = None) -> Any:
    """Read voxels; nibabel does so only here, so this is where a truncated file shows."""
    try:
        return loader(path, reader)
    except READ_ERRORS as error:
        raise InputError(f"{path} is truncated or damaged; copy or download it again") from error


def stack_channels(volumes: Sequence[Any], paths: Sequence[Path]) -> Any:
    """Volumes (1, H, W, D) -> (C, H, W, D) named by the folder of the files, after checking that their grids agree."""
    images = [volume if isinstance(volume, MetaTensor) else volume[0] for volume in volumes]
    for image, path in zip(images[1:], paths[1:], strict=True):
        check_same_grid(images[0], image, path, f"the one of {paths[0].name}")
    stacked = MetaTensor(torch.cat([image.as_tensor() for image in images]), meta=dict(images[0].meta))
    stacked.meta["filename_or_obj"] = source_of(paths)
    return stacked if isinstance(volumes[0], MetaTensor) else (stacked, stacked.meta)


def check_shape(shape: tuple[int, ...], in_channels: int, path: Path) -> None:
    """Three axes and, for more than one channel, a fourth that holds them; further axes must have length 1."""
    spatial, rest = shape[:3], list(shape[3:])
    while rest and rest[-1] == 1:
        rest.pop()
    if len(spatial) < 3 or 0 in shape:
        raise InputError(f"{path} has shape {shape} where a 3D volume is due; give a volume (H, W, D)")
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


def check_image(image: torch.Tensor, path: Path) -> None:
    """Voxels are finite and not all the same."""
    bad = int(image.numel() - torch.isfinite(image).sum())
    if bad:
        raise InputError(f"{path} has {bad} NaN or infinite voxels; replace them, for CT by -1024")
    low, high = torch.aminmax(image)
    if low == high:
        raise InputError(f"{path} has no foreground, every voxel is {float(low):g}; leave this case out or replace it")


def integer_label(label: MetaTensor, path: Path, num_classes: int | None = None) -> MetaTensor:
    """The label map as uint8, or int32 where ids exceed 255, after checking that ids are whole and in range."""
    if not (torch.isfinite(label).all() and (label == label.round()).all()):
        raise InputError(f"label {path} has values that are not whole numbers; save it as an integer label map")
    low, high = (int(value) for value in torch.aminmax(label))
    if low < 0 or (num_classes is not None and high >= num_classes):
        limit = "" if num_classes is None else f" to {num_classes - 1}"
        raise InputError(
            f"label {path} has ids from {low} to {high} where 0{limit} is allowed; map its ids, or set out_channels"
        )
    return label.to(torch.uint8 if high <= 255 else torch.int32)


def check_same_grid(image: MetaTensor, label: MetaTensor, path: Path, other: str = "that of its image") -> None:
    """The volume of `path` has the image's spatial shape, and its affine to within a thousandth of a voxel."""
    shape, expected = tuple(label.shape[1:]), tuple(image.shape[1:])
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
