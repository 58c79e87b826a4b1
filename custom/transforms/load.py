"""Load NIfTI volumes, and refuse with one sentence whatever would go wrong later without a reason being given."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import LoadImage, LoadImaged

from ..errors import InputError
from ..files import source_of
from .checks import READ_ERRORS, check_header, check_image, check_same_grid, integer_label, truncated


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
            a constant image; a singular or non-finite affine, a zero spacing; more than 2^29 voxels; a label, or
            a channel's file, whose shape or affine does not fit; a label with unknown ids.
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

    def _read(self, image: str | Path | Sequence[str | Path], channels: int, reader: Any, whole: bool = True) -> Any:
        """The volume of one file, or of one file a channel; with `whole`, not more than can be held."""
        if isinstance(image, str | Path):
            check_header(Path(image), channels, whole)
            return read_volume(self._loader, Path(image), reader)
        paths = [Path(path) for path in image]
        if len(paths) != channels:
            raise InputError(f"{source_of(paths)} has {len(paths)} files where {channels} are due; set in_channels")
        volumes = []
        for path in paths:
            check_header(path, whole=whole)
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


def read_volume(loader: LoadImage, path: Path, reader: Any = None) -> Any:
    """Read voxels; nibabel does so only here, so this is where a truncated file shows."""
    try:
        return loader(path, reader)
    except READ_ERRORS as error:
        raise truncated(path) from error


def stack_channels(volumes: Sequence[Any], paths: Sequence[Path]) -> Any:
    """Volumes (1, H, W, D) -> (C, H, W, D) named by the folder of the files, after checking that their grids agree."""
    images = [volume if isinstance(volume, MetaTensor) else volume[0] for volume in volumes]
    for image, path in zip(images[1:], paths[1:], strict=True):
        check_same_grid(images[0], image, path, f"the one of {paths[0].name}")
    stacked = MetaTensor(torch.cat([image.as_tensor() for image in images]), meta=dict(images[0].meta))
    stacked.meta["filename_or_obj"] = source_of(paths)
    return stacked if isinstance(volumes[0], MetaTensor) else (stacked, stacked.meta)
