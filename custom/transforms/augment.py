"""The augmentation of the paper's chest X-rays: random resized crops and RandAugment, on 8-bit grey images."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from PIL import Image, ImageEnhance, ImageOps

GREY = 128  # what moves in from outside the image
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
ATTEMPTS = 10


def to_picture(image: torch.Tensor) -> Image.Image:
    """(1, H, W) uint8 -> a grey PIL image."""
    return Image.fromarray(np.asarray(image[0]))


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """A grey PIL image -> (1, H, W) uint8."""
    return torch.from_numpy(np.array(picture))[None]


class RandResizedCropd(RandomizableTransform, MapTransform):
    """Crop a random part of the area, in a random shape, and resize it to (1, size, size), bilinearly.

    Args:
        keys: images (1, H, W) uint8; all get the same crop.
        size: pixels along each side.
        scale: smallest and largest share of the area.
        ratio: narrowest and widest shape (width / height); what is between is drawn on a logarithmic scale.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, 1.0)
        self.size, self.scale, self.ratio = int(size), tuple(scale), tuple(ratio)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        box = self.draw_box(*result[self.first_key(result)].shape[1:])
        for key in self.key_iterator(result):
            picture = to_picture(result[key]).crop(box)
            result[key] = to_tensor(picture.resize((self.size, self.size), BILINEAR))
        return result

    def draw_box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of a crop; the middle square where ten draws do not fit."""
        for _ in range(ATTEMPTS):
            area = height * width * self.R.uniform(*self.scale)
            shape = exp(self.R.uniform(log(self.ratio[0]), log(self.ratio[1])))
            wide, high = round(sqrt(area * shape)), round(sqrt(area / shape))
            if 0 < wide <= width and 0 < high <= height:
                left, top = self.R.randint(width - wide + 1), self.R.randint(height - high + 1)
                return left, top, left + wide, top + high
        side = min(height, width)
        left, top = (width - side) // 2, (height - side) // 2
        return left, top, left + side, top + side


Operation = Callable[[Image.Image, float, np.random.RandomState], Image.Image]


def enhanced(kind: type[ImageEnhance._Enhance]) -> Operation:
    """Contrast, brightness or sharpness times 1 plus or minus up to 0.9."""

    def apply(picture: Image.Image, level: float, state: np.random.RandomState) -> Image.Image:
        return kind(picture).enhance(max(0.1, 1 + signed(0.9 * level, state)))

    return apply


def moved(matrix: Callable[[float, Image.Image], tuple[float, ...]], most: float) -> Operation:
    """An affine map (a, b, c, d, e, f) of a signed amount up to `most`."""

    def apply(picture: Image.Image, level: float, state: np.random.RandomState) -> Image.Image:
        amount, resample = signed(most * level, state), interpolation(state)
        coefficients = matrix(amount, picture)
        return picture.transform(picture.size, Image.Transform.AFFINE, coefficients, resample, fillcolor=GREY)

    return apply


def rotated(picture: Image.Image, level: float, state: np.random.RandomState) -> Image.Image:
    """By up to 30 degrees."""
    return picture.rotate(signed(30 * level, state), interpolation(state), fillcolor=GREY)


def solarised_addition(picture: Image.Image, level: float, _: np.random.RandomState) -> Image.Image:
    """Add up to 110 to the darker half of the levels."""
    return picture.point([min(255, value + int(110 * level)) if value < 128 else value for value in range(256)])


def signed(amount: float, state: np.random.RandomState) -> float:
    """Plus or minus `amount`."""
    return amount if state.rand() < 0.5 else -amount


def interpolation(state: np.random.RandomState) -> Image.Resampling:
    """Bilinear or bicubic."""
    return BILINEAR if state.rand() < 0.5 else BICUBIC


OPERATIONS: dict[str, Operation] = {
    "autocontrast": lambda picture, level, state: ImageOps.autocontrast(picture),
    "equalise": lambda picture, level, state: ImageOps.equalize(picture),
    "invert": lambda picture, level, state: ImageOps.invert(picture),
    "rotate": rotated,
    "posterise": lambda picture, level, state: ImageOps.posterize(picture, max(1, 4 - int(4 * level))),
    "solarise": lambda picture, level, state: ImageOps.solarize(picture, 256 - int(256 * level)),
    "solarise_add": solarised_addition,
    "colour": lambda picture, level, state: picture,  # does nothing to a grey image
    "contrast": enhanced(ImageEnhance.Contrast),
    "brightness": enhanced(ImageEnhance.Brightness),
    "sharpness": enhanced(ImageEnhance.Sharpness),
    "shear_x": moved(lambda amount, picture: (1, amount, 0, 0, 1, 0), 0.3),
    "shear_y": moved(lambda amount, picture: (1, 0, 0, amount, 1, 0), 0.3),
    "translate_x": moved(lambda amount, picture: (1, 0, amount * picture.size[0], 0, 1, 0), 0.45),
    "translate_y": moved(lambda amount, picture: (1, 0, 0, 0, 1, amount * picture.size[1]), 0.45),
}


class RandAugmentd(RandomizableTransform, MapTransform):
    """RandAugment (Cubuk et al. 2020) as the reference runs it: `rand-m9-mstd0.5-inc1` of timm 0.4.12.

    `num_ops` of 15 operations are drawn, with replacement, and each is done with probability 1/2 at a strength from
    N(`magnitude`, `magnitude_std`), cut to 0 to 10; all grow with it.

    Args:
        keys: images (1, H, W) uint8.
        prob: probability of augmenting at all.
        num_ops: operations drawn for an image.
        magnitude, magnitude_std: strength, of 10.
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        num_ops: int = 2,
        magnitude: float = 9.0,
        magnitude_std: float = 0.5,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.num_ops, self.magnitude, self.magnitude_std = num_ops, magnitude, magnitude_std

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        for key in self.key_iterator(result):
            picture = to_picture(result[key])
            for name in self.R.choice(list(OPERATIONS), self.num_ops):
                if self.R.rand() < 0.5:
                    level = np.clip(self.R.normal(self.magnitude, self.magnitude_std), 0, 10) / 10
                    picture = OPERATIONS[name](picture, float(level), self.R)
            result[key] = to_tensor(picture)
        return result
