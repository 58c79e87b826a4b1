"""Load NIfTI volumes at another spacing, without ever holding the voxels of a whole file."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor, NibabelReader
from monai.data.utils import affine_to_spacing
from monai.transforms import InvertibleTransform, Orientation, Spacing
from monai.utils import ensure_tuple
from numpy.typing import NDArray

from ..errors import InputError
from ..files import source_of
from ..spacing import Grid, ras_grid, resample_slabs, slab_depth
from .checks import READ_ERRORS, IntensityCheck, LabelCheck, check_same_grid, check_size, truncated
from .load import LoadVolumed


class LoadAtSpacingd(LoadVolumed, InvertibleTransform):
    """Load 3D NIfTI files, checked, with axes towards right, front and head (RAS) and a given voxel size.

    The result is that of LoadVolumed, Orientationd(axcodes="RAS") and Spacingd with mode "bilinear" for images and
    "nearest" for the label: MetaTensors (C, H, W, D), the image float32, the label uint8 or int32, with the shape,
    affine and metadata that MONAI gives them. But files are read slab by slab and resampled axis by axis, so memory
    holds the result and a few slices instead of the file; only files with a sheared grid, whose axes MONAI straightens,
    go through MONAI's transforms. Invertd cannot undo it, and says so: NativeLabelsd and NativeImaged lead back to the
    file's grid.

    Args:
        keys, in_channels, num_classes, image_key, label_key, allow_missing_keys: as for LoadVolumed.
        pixdim: voxel size in mm, one number or one for each axis; 0 or less keeps the file's.

    Raises:
        InputError: as LoadVolumed.
    """

    def __init__(
        self,
        keys: KeysCollection,
        pixdim: Sequence[float] | float,
        in_channels: int = 1,
        num_classes: int | None = None,
        image_key: str = "image",
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, in_channels, num_classes, image_key, label_key, allow_missing_keys)
        self.pixdim = tuple(float(size) for size in ensure_tuple(pixdim))

    def __call__(self, data: Mapping[Hashable, Any], reader: Any = None) -> dict[Hashable, Any]:
        """Replace file names by volumes; every other key stays as it is. A `reader` of one's own reads files whole."""
        headers = {key: self._header(data[key], key) for key in self.key_iterator(data)}
        if {self.image_key, self.label_key} <= headers.keys():
            path = Path(source_of(data[self.label_key]))
            check_same_grid(headers[self.image_key], headers[self.label_key], path)
        grids = {key: ras_grid(*native_grid(header), self.pixdim) for key, header in headers.items()}
        sizes = " x ".join(f"{size:g}" for size in self.pixdim)
        for key, grid in grids.items():
            check_size((len(headers[key]), *grid.shape), Path(source_of(data[key])), f"of {sizes} mm")
        loaded = dict(data)
        in_slabs = reader is None and all(grid.separable for grid in grids.values())
        whole = {} if in_slabs else super().__call__(data, reader)
        for key, postfix in self.key_iterator(loaded, self.meta_key_postfix):
            if in_slabs:
                volume = self._resampled(data[key], headers[key], grids[key], key)
            else:
                volume = self._spaced(whole[key], key)
            loaded[key] = volume
            if not self._loader.image_only:  # as in LoadVolumed
                loaded[f"{key}_{postfix}"] = volume.meta
        return loaded

    def inverse(self, data: Any) -> Any:
        """For MONAI's Invertd, which would silently undo all but this: InputError."""
        raise InputError("LoadAtSpacingd cannot be inverted; use NativeLabelsd or NativeImaged in place of Invertd")

    def _header(self, image: str | Path | Sequence[str | Path], key: Hashable) -> MetaTensor:
        """What LoadVolumed would load, with one voxel (C, 1, 1, 1) in place of all."""
        channels = self.in_channels if key == self.image_key else 1
        header = self._read(image, channels, HeaderReader(squeeze_non_spatial_dims=True), whole=False)
        return header if self._loader.image_only else header[0]

    def _resampled(
        self, image: str | Path | Sequence[str | Path], header: MetaTensor, grid: Grid, key: Hashable
    ) -> MetaTensor:
        """Read and resample slab by slab, and check every voxel on the way."""
        is_label, path = key == self.label_key, Path(source_of(image))
        check = LabelCheck() if is_label else IntensityCheck()
        volume = torch.empty((len(header), *grid.shape), dtype=torch.int32 if is_label else torch.float32)
        _, shape = native_grid(header)
        with np.errstate(all="ignore"):  # of voxels that are not finite; the checks report them
            for slabs, target in zip(channel_slabs(image, slab_depth(grid, shape)), volume.numpy(), strict=True):
                resample_slabs(checked(slabs, check), grid, shape, target, nearest=is_label)
        if is_label:
            volume = volume.to(check.finish(path, self.num_classes))
        elif key == self.image_key:
            check.finish(path)
        meta = {name: value for name, value in header.meta.items() if name != "affine"}
        meta["pixdim"][1:4] = affine_to_spacing(grid.affine)
        return MetaTensor(volume, affine=torch.from_numpy(grid.affine), meta=meta)

    def _spaced(self, volume: MetaTensor, key: Hashable) -> MetaTensor:
        """A whole volume through MONAI's transforms."""
        spacing = Spacing(self.pixdim, mode="nearest" if key == self.label_key else "bilinear", dtype=torch.float32)
        return spacing(Orientation("RAS", labels=None)(volume)).to(volume.dtype)


class HeaderReader(NibabelReader):
    """MONAI's reader of NIfTI files with one voxel a channel, not read, in place of all."""

    def _get_array_data(self, img: Any, filename: str) -> NDArray:
        return np.zeros((1, 1, 1, *img.shape[3:]), dtype=np.float32)


def native_grid(header: MetaTensor) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Affine (4, 4) and shape (H, W, D) of a file."""
    return np.asarray(header.affine, dtype=np.float64), tuple(int(size) for size in header.meta["spatial_shape"])


def channel_slabs(image: str | Path | Sequence[str | Path], depth: int) -> Iterator[Iterator[NDArray]]:
    """For each channel, in one file or in one file each, its `slabs_of`; to be used in this order."""
    for path in [image] if isinstance(image, str | Path) else image:
        volume = nibabel.load(path, keep_file_open=True)  # so that a compressed file is read once, front to back
        channels, *rest = (*volume.shape[3:], 1)
        for channel in range(channels):
            yield slabs_of(volume, (channel, *[0] * len(rest))[: volume.ndim - 3], depth)


def slabs_of(volume: Any, channel: tuple[int, ...], depth: int) -> Iterator[NDArray]:
    """Voxels of a NIfTI image in parts (<= depth, W, H), front to back, as float32 or an integer type that it holds."""
    for start in range(0, volume.shape[2], depth):
        try:
            slab = volume.dataobj[(slice(None), slice(None), slice(start, start + depth), *channel)]
        except READ_ERRORS as error:
            raise truncated(volume.get_filename()) from error
        small = slab.dtype.kind in "iu" and slab.dtype.itemsize <= 2
        yield slab.astype(slab.dtype.newbyteorder("=") if small else np.float32, copy=False).T


def checked(slabs: Iterator[NDArray], check: IntensityCheck | LabelCheck) -> Iterator[NDArray]:
    """The same slabs, each shown to the check."""
    for slab in slabs:
        check.add(slab)
        yield slab
