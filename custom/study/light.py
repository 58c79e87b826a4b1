"""A segmentation network that is nothing but the encoder and one linear map: what it gets right, tokens know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from ..data import CropDataset
from ..networks import ViT
from ..networks.tokens import unpatchify
from ..networks.vit import init_linear

BLOCKS = 4
CROPS = 512  # at most, that a probe is fitted to
STEPS, BATCH, RATE = 400, 16, 3e-3  # of so many crops each, from such a learning rate to 0


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
        return self.decode(self.features(image))

    def decode(self, features: Tensor) -> Tensor:
        """Outputs of `features` -> logits (B, out_channels, H, W, D)."""
        patches = self.head(self.norm(features.flatten(0, 1).float()).reshape(features.shape).to(features.dtype))
        return unpatchify(patches, self.encoder.grid, self.encoder.patch_size)


def fit_probe(
    network: LinearSegmenter,
    dataset: CropDataset,
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int = STEPS,
) -> LinearSegmenter:
    """Train the head on labelled crops by the recipe's own loss, the encoder frozen. Returns the network.

    Features are standardised over all crops, the weights start at 0 and the bias where the caller put it, best at the
    prevalence. A closed form such as ridge regression is no use: least squares prefers the background everywhere.
    """
    features, labels = encode_crops(network, dataset, min(CROPS, steps * BATCH))
    tokens = features.flatten(0, 1)
    network.norm.running_mean.copy_(tokens.mean(dim=0))
    network.norm.running_var.copy_(tokens.var(dim=0))
    nn.init.zeros_(network.head.weight)
    optimiser = torch.optim.Adam(network.head.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    device = network.head.weight.device
    with torch.enable_grad():
        for _ in range(steps):
            batch = torch.randint(len(features), (BATCH,))
            value = loss(network.decode(features[batch].to(device)), labels[batch].to(device))
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
            schedule.step()
    return network


@torch.no_grad()
def encode_crops(network: LinearSegmenter, dataset: CropDataset, crops: int) -> tuple[Tensor, Tensor]:
    """At least so many crops -> features (N, L, blocks * hidden) and labels (N, 1 or K, H, W, D), on the CPU."""
    network.eval()
    device = network.head.weight.device
    features, labels = [], []
    for index in range(-(-crops // dataset.num_samples)):
        for sample in dataset[index]:
            features.append(network.features(sample["image"][None].to(device)).float().cpu())
            labels.append(torch.as_tensor(sample["label"]))
    return torch.cat(features), torch.stack(labels)
