"""A segmentation network that is nothing but the encoder and one linear map: what it gets right, tokens know."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data import CropDataset
from ..networks import ViT
from ..networks.tokens import patchify, unpatchify
from ..networks.vit import init_linear

RIDGE = 1e-2  # on squared weights of standardised features, a token


class LinearSegmenter(nn.Module):
    """ViT and a linear map from the outputs of all blocks, standardised, to the voxels of each patch.

    Args:
        in_channels, img_size, patch_size, hidden_size, num_layers, num_heads, drop_path_rate, attention: see `ViT`.
        out_channels: classes, the background among them.
        other: options of a `UNETR` that mean nothing here.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int],
        patch_size: int | Sequence[int] = 16,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        drop_path_rate: float = 0.0,
        attention: str = "sdpa",
        **other: Any,
    ) -> None:
        super().__init__()
        self.encoder = ViT(
            in_channels, img_size, patch_size, hidden_size, num_layers, num_heads,
            pos_embed="learnable", drop_path_rate=drop_path_rate, attention=attention,
        )  # fmt: skip
        self.out_channels = out_channels
        self.norm = nn.BatchNorm1d(hidden_size * num_layers, affine=False)
        self.head = nn.Linear(hidden_size * num_layers, prod(self.encoder.patch_size) * out_channels)
        init_linear(self.head)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves alone."""
        return {"encoder.cls_token", "encoder.pos_embed"}

    def features(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> outputs of all blocks side by side (B, L, layers * hidden), without the class token."""
        return torch.cat([hidden[:, 1:] for hidden in self.encoder.encode(image)[1]], dim=2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> logits (B, out_channels, H, W, D)."""
        features = self.features(image)
        patches = self.head(self.norm(features.flatten(0, 1).float()).reshape(features.shape).to(features.dtype))
        return unpatchify(patches, self.encoder.grid, self.encoder.patch_size)


@torch.no_grad()
def fit_probe(network: LinearSegmenter, dataset: CropDataset, epochs: int = 4) -> LinearSegmenter:
    """Fit the head to the labels of some epochs of crops by ridge regression, the encoder frozen. Returns the network.

    The targets are +1 for a voxel's class or region and -1 for the others, so logits above 0 are a region.
    """
    network.eval()
    pairs = [
        (network.features(sample["image"][None]).flatten(0, 1), target_of(sample["label"], network))
        for index in range(epochs * len(dataset))
        for sample in dataset[index]
    ]
    features, targets = (torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    mean, variance = features.mean(dim=0), features.var(dim=0)
    network.norm.running_mean.copy_(mean)
    network.norm.running_var.copy_(variance)
    scaled = (features - mean) / (variance + network.norm.eps).sqrt()
    offset = targets.mean(dim=0)
    ridge = RIDGE * len(scaled) * torch.eye(scaled.shape[1], dtype=torch.double)
    weight = torch.linalg.solve(scaled.T @ scaled + ridge, scaled.T @ (targets - offset))
    network.head.weight.copy_(weight.T)
    network.head.bias.copy_(offset)
    return network


def target_of(label: Tensor, network: LinearSegmenter) -> Tensor:
    """(1 or K, H, W, D) -> +1 and -1 of every voxel of each patch (L, P * K)."""
    label = torch.as_tensor(label)
    if len(label) == 1 and network.out_channels > 1:
        label = functional.one_hot(label[0].long(), network.out_channels).movedim(-1, 0)
    return patchify(2.0 * label[None].float() - 1, network.encoder.patch_size)[0]
