"""Controls: what pre-training would teach without anatomy, and what UNETR or ViT do without a transformer."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor, nn

from ..networks import ViT
from ..networks.tokens import patch_grid, patchify, unpatchify


class ShuffleBlocksd(MapTransform, RandomizableTransform):
    """Cut an image into blocks and put them back in a random order, the same for all keys: texture without anatomy.

    Args:
        keys: arrays (C, H, W[, D]) of equal spatial shape.
        block: size of a block in voxels, one number an axis; must divide the image.
        allow_missing_keys: whether keys may be missing.
    """

    def __init__(self, keys: KeysCollection, block: Sequence[int], allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob=1.0)
        self.block = [int(size) for size in block]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result, order = dict(data), None
        for key in self.key_iterator(result):
            image = torch.as_tensor(result[key])
            grid = patch_grid(image.shape[1:], self.block)
            if order is None:
                order = torch.from_numpy(self.R.permutation(prod(grid)).astype(np.int64))
            result[key] = unpatchify(patchify(image[None], self.block)[:, order], grid, self.block)[0]
        return result


def without_blocks(network: nn.Module) -> nn.Module:
    """The network with transformer blocks that do nothing: tokens stay embedded patches. Weights keep their places."""
    encoder = network if isinstance(network, ViT) else network.encoder
    for block in encoder.blocks:
        block.forward = unchanged
    return network


def unchanged(x: Tensor) -> Tensor:
    """What it is given."""
    return x
