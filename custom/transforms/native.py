"""Predictions back onto the voxel grid of the input file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple
from torch import Tensor

from ..errors import InputError
from ..resampling import file_geometry, image_to_native, labels_to_native


class Natived(MapTransform):
    """Common part: find both grids, resample, keep the file's metadata."""

    def __init__(
        self, keys: KeysCollection, image_key: str = "image", output_keys: KeysCollection | None = None
    ) -> None:
        super().__init__(keys)
        self.image_key = image_key
        self.output_keys = self.keys if output_keys is None else ensure_tuple(output_keys)
        if len(self.output_keys) != len(self.keys):
            raise InputError(f"output_keys {self.output_keys} must name one key for each of keys {self.keys}")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        affine, shape = file_geometry(result[self.image_key], self.image_key)
        for key, output_key in zip(self.keys, self.output_keys, strict=True):
            to_grid = np.linalg.solve(_grid_affine(result, key, self.image_key), affine)
            source = result[key].as_tensor() if isinstance(result[key], MetaTensor) else result[key]
            native = self.resample(source, to_grid, shape, data)
            result[output_key] = with_meta_of_file(native, result[self.image_key])
        return result

    @abstractmethod
    def resample(
        self, source: Tensor, to_grid: np.ndarray, shape: Sequence[int], data: Mapping[Hashable, Any]
    ) -> Tensor:
        """`source` (C, h, w, d) of the case at every voxel of its file; `to_grid` maps their indices to its own."""


def _grid_affine(data: Mapping[Hashable, Any], key: Hashable, image_key: str) -> np.ndarray:
    """Affine of the grid of data[key]; that of the image where the network's output lost its own."""
    value = data[key]
    known = isinstance(value, MetaTensor) and not np.array_equal(np.asarray(value.affine), np.eye(4))
    return np.asarray((value if known else data[image_key]).affine, dtype=np.float64)


def with_meta_of_file(native: Tensor, image: MetaTensor) -> MetaTensor:
    """A volume on the grid of the file with the affine and the name of the file that `image` was loaded from."""
    affine, _ = file_geometry(image)
    return MetaTensor(native, affine=torch.from_numpy(affine), meta=dict(image.meta))


class FileMetad(MapTransform):
    """Give labels (1, H, W, D) on the grid of the input file the file's affine and name, for SaveImaged.

    Args:
        keys: integer labels, as NativeSlidingWindowInferer returns them.
        image_key: the preprocessed image as LoadImaged made it.

    Raises:
        InputError: scores, or labels of another shape than the file's.
    """

    def __init__(self, keys: KeysCollection, image_key: str = "image") -> None:
        super().__init__(keys)
        self.image_key = image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        _, shape = file_geometry(data[self.image_key], self.image_key)
        for key in self.key_iterator(result):
            labels = torch.as_tensor(data[key])
            if labels.is_floating_point() or list(labels.shape) != [1, *shape]:
                raise InputError(
                    f"'{key}' is {labels.dtype} of shape {tuple(labels.shape)}, not the labels of a file of shape "
                    f"{tuple(shape)}; use NativeLabelsd for scores on the grid of the image"
                )
            result[key] = with_meta_of_file(labels, data[self.image_key])
        return result


class NativeLabelsd(Natived):
    """Logits (C, h, w, d) -> labels (1, H, W, D) uint8 with the shape, affine and file name of the input file.

    Args:
        keys: logits, on the grid of `image_key` or with an affine of their own.
        image_key: the preprocessed image as LoadImaged made it; its metadata name the file's affine and shape.
        output_keys: where the labels go; default `keys`, which replaces the logits.
    """

    def resample(
        self, source: Tensor, to_grid: np.ndarray, shape: Sequence[int], data: Mapping[Hashable, Any]
    ) -> Tensor:
        return labels_to_native(source, to_grid, shape)[None]


class NativeImaged(Natived):
    """Image (C, h, w, d) -> float32 (C, H, W, D) with the shape, affine and file name of the input file.

    Args:
        keys: images, on the grid of `image_key` or with an affine of their own.
        image_key: the preprocessed image as LoadImaged made it; its metadata name the file's affine and shape.
        output_keys: where the result goes; default `keys`.
        fill: value outside the image, in its units.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_key: str = "image",
        output_keys: KeysCollection | None = None,
        fill: float = 0.0,
    ) -> None:
        super().__init__(keys, image_key, output_keys)
        self.fill = fill

    def resample(
        self, source: Tensor, to_grid: np.ndarray, shape: Sequence[int], data: Mapping[Hashable, Any]
    ) -> Tensor:
        return image_to_native(source, to_grid, shape, self.fill)
