"""Last items of a postprocessing chain: write a picture of each case and pass the data through unchanged."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from ..errors import InputError
from ..files import case_name, case_path
from ..pictures import Slices, draw_overlay, draw_reconstruction, to_ras
from ..pictures_2d import draw_masked_image
from ..resampling import image_to_native


class SaveOverlayd(MapTransform):
    """Write `<output_dir>/<case>_overlay.png`: the label map over the image in three planes.

    Args:
        keys: label map (1, H, W, D), a MetaTensor in any orientation; one key.
        names: names of the labels 1, 2, ..., or label -> name.
        output_dir: made when missing.
        image_key: image (1, h, w, d) of the same patient; interpolated where its grid is another.
        window: intensities shown black and white, in the units of the image; None takes percentiles.
    """

    def __init__(
        self,
        keys: KeysCollection,
        names: Sequence[str] | Mapping[int, str],
        output_dir: str | Path,
        image_key: str = "image",
        window: Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys)
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names, 1))
        self.output_dir = Path(output_dir)
        self.image_key = image_key
        self.window = window

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        labels, image = self.to_draw(data)
        drawn, spacing = to_ras(_array(labels), np.asarray(labels.affine))
        path, name = _target(self.output_dir, data, self.image_key, "overlay")
        draw_overlay(slices_on_grid(image, labels), drawn, spacing, self.names, path, name, self.window)
        return data

    def to_draw(self, data: Mapping[Hashable, Any]) -> tuple[MetaTensor, MetaTensor]:
        """The label map, numbered as `names` says, and the image."""
        return _meta_tensor(data, self.first_key(data)), _meta_tensor(data, self.image_key)


class SaveReconstructiond(MapTransform):
    """Write `<output_dir>/<case>_reconstruction.png`: input, masked input, reconstruction; a volume in three planes.

    Args:
        keys: reconstruction (1, h, w, d) on the grid of the image, or (1, h, w) of a 2D image; one key.
        output_dir: made when missing.
        image_key: image (C, h, w, d), a MetaTensor in any orientation, or (C, h, w); its first channel is drawn.
        visible_key: (1, h, w, d) on the same grid, 1 where the network saw the image, 0 where it was masked.
        window: intensities shown black and white, in the units of the image; None takes percentiles.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path,
        image_key: str = "image",
        visible_key: str = "visible",
        window: Sequence[float] | None = None,
    ) -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.image_key = image_key
        self.visible_key = visible_key
        self.window = window

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        keys = (self.image_key, self.visible_key, self.first_key(data))
        if data[self.image_key].ndim == 3:
            return self._draw_2d(data, *(_array(data[key]) for key in keys))
        affine = np.asarray(_meta_tensor(data, self.image_key).affine)
        (image, visible, reconstructed), spacings = zip(
            *(to_ras(_array(data[key]), affine) for key in keys), strict=True
        )
        path, name = _target(self.output_dir, data, self.image_key, "reconstruction")
        draw_reconstruction(image, visible < 0.5, reconstructed, spacings[0], path, name, self.window)
        return data

    def _draw_2d(
        self, data: Mapping[Hashable, Any], image: np.ndarray, visible: np.ndarray, reconstructed: np.ndarray
    ) -> Mapping[Hashable, Any]:
        path, name = _target(self.output_dir, data, self.image_key, "reconstruction")
        draw_masked_image(image, visible < 0.5, reconstructed, path, name, self.window)
        return data


def _meta_tensor(data: Mapping[Hashable, Any], key: Hashable) -> MetaTensor:
    if not isinstance(data[key], MetaTensor):
        raise InputError(f"'{key}' has no affine, so its orientation is unknown; keep the metadata of LoadImaged")
    return data[key]


def _array(volume: torch.Tensor) -> np.ndarray:
    """First channel as numpy (h, w, d); half precision becomes float32, which numpy can draw."""
    plain = volume.as_tensor() if isinstance(volume, MetaTensor) else volume
    plain = plain[0].detach().cpu()
    return (plain.float() if plain.is_floating_point() else plain).numpy()


def slices_on_grid(image: MetaTensor, labels: MetaTensor) -> Slices:
    """Slices of the first channel of the image on the grid of the labels in RAS orientation, each made when asked."""
    orientation = nib.orientations.io_orientation(labels.affine)
    to_labels = nib.orientations.inv_ornt_aff(orientation, labels.shape[1:])
    to_image = np.linalg.solve(np.asarray(image.affine), np.asarray(labels.affine) @ to_labels)
    shape = [labels.shape[1 + axis] for axis in np.argsort(orientation[:, 0])]
    channel = image.as_tensor()[:1]
    low = float(channel.min())

    def take(index: int, axis: int) -> np.ndarray:
        moved, thin = to_image.copy(), list(shape)
        moved[:3, 3] += index * to_image[:3, axis]
        thin[axis] = 1
        return _array(image_to_native(channel, moved, thin, low)).squeeze(axis)

    return take


def _target(output_dir: Path, data: Mapping[Hashable, Any], image_key: str, kind: str) -> tuple[Path, str]:
    name = case_name(case_path(data, image_key))
    return output_dir / f"{name}_{kind}.png", name
