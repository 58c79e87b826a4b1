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

BLOCKS = 4
RIDGE = 1e-2  # on squared weights of standardised features, a token
CROPS = 512  # at most, that a probe is fitted to


class LinearSegmenter(nn.Module):
    """ViT and a linear map from the outputs of up to four blocks, standardised, to the voxels of each patch.

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
        count = min(num_layers, BLOCKS)
        self.blocks = [num_layers * (place + 1) // count - 1 for place in range(count)]  # evenly, the last among them
        self.norm = nn.BatchNorm1d(hidden_size * count, affine=False)
        self.head = nn.Linear(hidden_size * count, prod(self.encoder.patch_size) * out_channels)
        init_linear(self.head)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves alone."""
        return {"encoder.cls_token", "encoder.pos_embed"}

    def features(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> outputs of the blocks side by side (B, L, blocks * hidden), without the class token."""
        hidden = self.encoder.encode(image)[1]
        return torch.cat([hidden[block][:, 1:] for block in self.blocks], dim=2)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> logits (B, out_channels, H, W, D)."""
        features = self.features(image)
        patches = self.head(self.norm(features.flatten(0, 1).float()).reshape(features.shape).to(features.dtype))
        return unpatchify(patches, self.encoder.grid, self.encoder.patch_size)


@torch.no_grad()
def fit_probe(network: LinearSegmenter, dataset: CropDataset, crops: int = CROPS) -> LinearSegmenter:
    """Fit the head to labelled crops by ridge regression, the encoder frozen. Returns the network.

    The targets are +1 for a voxel's class or region and -1 for the others, so logits above 0 are a region. Only sums
    over tokens are kept, so that memory does not grow with the crops.
    """
    network.eval()
    sums = Sums(network.head.in_features, network.head.out_features, network.head.weight.device)
    for index in range(-(-crops // dataset.num_samples)):
        for sample in dataset[index]:
            features = network.features(sample["image"][None].to(sums.device))[0]
            sums.add(features, target_of(sample["label"], network).to(sums.device))
    mean, spread, weight, offset = sums.solve(RIDGE, network.norm.eps)
    network.norm.running_mean.copy_(mean)
    network.norm.running_var.copy_(spread.square() - network.norm.eps)
    network.head.weight.copy_(weight.T)
    network.head.bias.copy_(offset)
    return network


class Sums:
    """Sums over tokens of features x (D,) and targets y (T,): all that a ridge regression needs."""

    def __init__(self, features: int, targets: int, device: torch.device) -> None:
        self.device, self.count = device, 0
        self.x, self.y = (torch.zeros(size, dtype=torch.double, device=device) for size in (features, targets))
        self.xx = torch.zeros(features, features, dtype=torch.double, device=device)
        self.xy = torch.zeros(features, targets, device=device)

    def add(self, features: Tensor, targets: Tensor) -> None:
        """Tokens (N, D) and their targets (N, T)."""
        self.count += len(features)
        self.x += features.double().sum(dim=0)
        self.y += targets.double().sum(dim=0)
        self.xx += features.double().T @ features.double()
        self.xy += features.float().T @ targets

    def solve(self, ridge: float, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean and spread (D,) of the features, and weight (D, T) and offset (T,) for standardised ones."""
        mean, offset = self.x / self.count, self.y / self.count
        covariance = self.xx / self.count - torch.outer(mean, mean)
        spread = (covariance.diagonal().clamp_min(0) + eps).sqrt()
        covariance = covariance / torch.outer(spread, spread) + ridge * torch.eye(len(mean), device=self.device)
        product = (self.xy / self.count - torch.outer(mean, offset)) / spread[:, None]
        return mean, spread, torch.linalg.solve(covariance, product), offset


def target_of(label: Tensor, network: LinearSegmenter) -> Tensor:
    """(1 or K, H, W, D) -> +1 and -1 of every voxel of each patch (L, P * K)."""
    label = torch.as_tensor(label)
    if len(label) == 1 and network.out_channels > 1:
        label = functional.one_hot(label[0].long(), network.out_channels).movedim(-1, 0)
    return patchify(2.0 * label[None].float() - 1, network.encoder.patch_size)[0]
