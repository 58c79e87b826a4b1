"""Missing contrasts: withheld in training at random, so that a model survives without one, or by name."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from ..errors import InputError


class RandDropContrastsd(RandomizableTransform, MapTransform):
    """With probability `prob`, set a random 1 to C - 1 of the C channels of an image (C, ...) to 0, their background.

    Which channels is the same for all `keys` of an item. An image of one channel stays as it is.
    """

    def __init__(self, keys: KeysCollection, prob: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        channels = result[self.first_key(result)].shape[0]
        if not self._do_transform or channels < 2:
            return result
        dropped = self.R.permutation(channels)[: self.R.randint(1, channels)]
        for key in self.key_iterator(result):
            result[key] = without(result[key], dropped.tolist())
        return result


class DropContrastsd(MapTransform):
    """Set the channels called `withheld` to 0, as if that contrast had not been acquired.

    Args:
        keys: images (C, ...).
        contrasts: names of the channels, in order.
        withheld: the names to leave out; a single name or a list, none by default.

    Raises:
        InputError: an unknown name.
    """

    def __init__(self, keys: KeysCollection, contrasts: Sequence[str], withheld: str | Sequence[str] = ()) -> None:
        super().__init__(keys)
        names = [withheld] if isinstance(withheld, str) else list(withheld)
        unknown = [name for name in names if name not in contrasts]
        if unknown:
            raise InputError(f"withhold names {unknown[0]!r}, which is no contrast; use some of {', '.join(contrasts)}")
        self.channels = [list(contrasts).index(name) for name in names]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = without(result[key], self.channels)
        return result


def without(image: Tensor, channels: Sequence[int]) -> Tensor:
    """A copy of `image` (C, ...) with these channels 0."""
    image = image.clone()
    image[list(channels)] = 0
    return image
