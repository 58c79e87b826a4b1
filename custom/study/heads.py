"""A start from which a network trains as well from random weights as from others: no arm shall lose by its head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data import CropDataset
from ..networks import ViT
from .light import LinearSegmenter

SMOOTHING = 0.5  # added to every count, so that no class starts as impossible


def fair_start(network: nn.Module, dataset: Any = None) -> nn.Module:
    """Normalise what a classifier's head sees, without parameters, and start the output at the prevalence.

    Args:
        network: a `ViTClassifier`, or a `UNETR` or `LinearSegmenter`, which normalise by themselves.
        dataset: the labelled training cases, an `ImageDataset` or a `CropDataset`; None where weights follow anyway.

    Returns:
        the network, changed in place.
    """
    if isinstance(network, ViT):
        output = network.head
        network.head = nn.Sequential(Standardise(output.in_features), output)
    else:
        output = network.head if isinstance(network, LinearSegmenter) else network.decoder.out.conv.conv
    if dataset is not None:
        classes = network.out_channels if isinstance(network, LinearSegmenter) else len(output.bias)
        with torch.no_grad():
            output.bias.copy_(prevalence_logits(classes, dataset).repeat(len(output.bias) // classes))
    return network


class Standardise(nn.BatchNorm1d):
    """Features (B, D) with mean 0 and variance 1 over the batch, or, in evaluation, over those of training."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, features: Tensor) -> Tensor:
        """A batch of one, such as the last of an epoch may be, is standardised as in evaluation."""
        if len(features) > 1:
            return super().forward(features)
        return functional.batch_norm(features, self.running_mean, self.running_var, eps=self.eps)


def prevalence_logits(classes: int, dataset: Any) -> Tensor:
    """Output (K,) that predicts how often each finding or class is there, whatever the image."""
    if not isinstance(dataset, CropDataset):
        labels = torch.tensor([item["label"] for item in dataset.data], dtype=torch.float32)
        return log_odds(labels.sum(dim=0), len(labels))
    counts, total = voxel_counts(classes, dataset)
    one_of_many = classes != dataset.cache.open(dataset.data[0]).label.shape[0]
    return (counts / total).log() if one_of_many else log_odds(counts, total)


def log_odds(counts: Tensor, total: float) -> Tensor:
    """Logit of a share."""
    return ((counts + SMOOTHING) / (total - counts + SMOOTHING)).log()


def voxel_counts(classes: int, dataset: CropDataset) -> tuple[Tensor, float]:
    """Voxels of each class (K,), or of each binary channel, in all cached cases, and voxels in all."""
    counts, total = torch.zeros(classes), 0.0
    for item in dataset.data:
        label = torch.from_numpy(dataset.cache.open(item).label[:])
        total += label[0].numel()
        if label.shape[0] == 1 and classes > 1:
            counts += torch.bincount(label.flatten().long(), minlength=classes)[:classes] + SMOOTHING
        else:
            counts += label.flatten(1).sum(dim=1)
    return counts, total
