"""Load 2D images, PNG, JPEG or DICOM, as grey levels from 0 to 255 in which more attenuation is brighter."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import optional_import
from numpy.typing import NDArray
from PIL import Image

from ..data.radiographs import is_dicom
from ..errors import InputError

pydicom, HAS_PYDICOM = optional_import("pydicom")

FORMATS = ("PNG", "JPEG")  # PIL knows others by their content, and for PostScript starts another program
MOST_PIXELS = 2**26  # 8192 x 8192; what is larger is a damaged header, or a picture meant to fill the memory
DEFLATED, MOST_DEFLATED = b"1.2.840.10008.1.2.1.99", 2**20  # DICOM that pydicom unpacks whole, up to 1032-fold


class LoadRadiographd(MapTransform):
    """Load an image file as a MetaTensor (1, size, size) uint8.

    Eight-bit grey levels are kept, colours become grey and transparency is ignored; deeper images are stretched from
    their lowest to their highest level. Of DICOM it is the window that is stretched, or the range where there is none,
    after the modality table; MONOCHROME1 is inverted and padding is black. The shorter side is resized to `size`,
    bilinearly with anti-aliasing, and the middle of the longer one is kept, as the reference does.

    Args:
        keys: keys of the file names.
        size: pixels along each side.
        allow_missing_keys: do not fail where a case lacks a key.

    Raises:
        InputError: a missing or unreadable file, one that is no 2D image, or an image of a single grey level.
    """

    def __init__(self, keys: KeysCollection, size: int, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.size = int(size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        loaded = dict(data)
        for key in self.key_iterator(loaded):
            path = Path(loaded[key])
            levels = read_radiograph(path)
            # No spatial_shape: MONAI Label would resize the prediction, one number a finding, to it.
            meta = {"filename_or_obj": str(path)}
            loaded[key] = MetaTensor(torch.from_numpy(to_square(levels, self.size))[None], meta=meta)
        return loaded


def read_radiograph(path: Path) -> NDArray[np.uint8]:
    """The grey levels (H, W) of an image file, row 0 on top."""
    if not path.is_file():
        raise InputError(f"{path} does not exist; correct the path")
    try:
        levels = read_dicom(path) if is_dicom(path) else read_picture(path)
    except InputError:
        raise
    except Exception as error:  # PIL and pydicom raise many kinds of errors for damaged files
        raise InputError(f"{path} is damaged or no PNG, JPEG or DICOM image ({error}); export it again") from error
    levels = levels if levels.dtype == np.uint8 else stretched(levels)
    if levels.min() == levels.max():
        raise InputError(f"{path} shows nothing, all its pixels are the same; leave this image out or replace it")
    return levels


def read_picture(path: Path) -> NDArray[Any]:
    """Grey levels (H, W) of a PNG or JPEG, uint8 unless it is deeper."""
    with Image.open(path, formats=FORMATS) as image:
        check_pixels(*image.size, path)
        deep = image.mode.startswith("I") or image.mode == "F"
        return np.asarray(image) if deep else np.asarray(image.convert("L"))


def check_pixels(columns: int, rows: int, path: Path) -> None:
    """The pixels that a header speaks of can be held in memory."""
    if columns * rows > MOST_PIXELS:
        raise InputError(f"{path} has {columns} x {rows} pixels, more than {MOST_PIXELS:,}; crop it or make it smaller")


def read_dicom(path: Path) -> NDArray[np.uint8]:
    """Grey levels (H, W) of a DICOM image, its window or else its range stretched, bright where more is attenuated."""
    if not HAS_PYDICOM:
        raise InputError(f"{path} is DICOM, which needs the package pydicom; install it with `pip install pydicom`")
    try:
        content = path.read_bytes()  # of a file, pydicom would ask for as much memory as a damaged length says
        if DEFLATED in content and len(content) > MOST_DEFLATED:
            raise InputError(f"{path} is deflated DICOM of more than {MOST_DEFLATED:,} bytes; export it uncompressed")
        dataset = pydicom.dcmread(BytesIO(content))
        columns, rows, frames = (int(dataset.get(name) or 1) for name in ("Columns", "Rows", "NumberOfFrames"))
        check_pixels(columns, rows * frames, path)
        pixels = dataset.pixel_array
        values = pydicom.pixels.apply_modality_lut(pixels, dataset).astype(np.float64)
    except InputError:
        raise
    except Exception as error:  # pydicom raises many kinds of errors for damaged files and missing decoders
        raise InputError(
            f"{path} has pixels that cannot be read ({error}); export it again, or install the decoder if one is named"
        ) from error
    if pixels.ndim == 3 and pixels.shape[-1] == 3:
        return np.asarray(Image.fromarray(pixels.astype(np.uint8)).convert("L"))
    if pixels.ndim != 2:
        raise InputError(f"{path} has pixels of shape {pixels.shape} where one image (H, W) is due; export a frame")
    padding = pixels == dataset.get("PixelPaddingValue", np.nan)
    levels = stretched(values, dicom_window(dataset, values[~padding]))
    levels = 255 - levels if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else levels
    return np.where(padding, np.uint8(0), levels)


def dicom_window(dataset: Any, values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Darkest and brightest value of the image's (first) window; the range of `values` where it has none."""
    if "WindowCenter" in dataset and "WindowWidth" in dataset:
        centre, width = (np.atleast_1d(dataset[name].value)[0] for name in ("WindowCenter", "WindowWidth"))
        return float(centre) - float(width) / 2, float(centre) + float(width) / 2
    return (values.min(), values.max()) if values.size else None


def stretched(levels: NDArray[Any], window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Any numbers (H, W) -> 0 to 255 over `window`, by default their range; all 0 where that is empty or not finite."""
    low, high = window or (float(levels.min()), float(levels.max()))
    if not np.isfinite(high - low) or low >= high:
        return np.zeros(levels.shape, np.uint8)
    return np.round((levels.astype(np.float64).clip(low, high) - low) * (255 / (high - low))).astype(np.uint8)


def to_square(levels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(H, W) -> (size, size): the shorter side resized, the middle of the longer one."""
    side = min(levels.shape)
    top, left = ((length - side) // 2 for length in levels.shape)
    square = Image.fromarray(levels[top : top + side, left : left + side])
    return np.array(square.resize((size, size), Image.Resampling.BILINEAR))
