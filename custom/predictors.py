"""Trivial predictors of hidden patches. A masked autoencoder that does not beat them all has learnt no context."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .networks.tokens import gather_tokens


def neighbour_mean(target: Tensor, hidden: Tensor, grid: list[int]) -> Tensor:
    """Predict each hidden patch as the mean of its visible neighbours on the grid (faces, edges and corners).

    target (B, L, P), hidden (B, M) -> (B, M, P). A patch without visible neighbours gets the mean of all visible ones.
    Padding counts as the 0 that it is.
    """
    batch, _, vector = target.shape
    visible = _visible(target, hidden)
    shown = torch.cat([target * visible, visible], dim=2)  # (B, L, P + 1): values, and whether they count
    near = shown.transpose(1, 2).reshape(batch, vector + 1, *grid)
    for axis in range(len(grid)):  # a box sum is a sum along each axis in turn
        near = _sum_of_three(near, 2 + axis)
    near = gather_tokens(near.flatten(2).transpose(1, 2), hidden)
    everywhere = shown.sum(dim=1, keepdim=True).expand(-1, hidden.shape[1], -1)
    total = torch.where(near[..., -1:] > 0, near, everywhere)
    return total[..., :-1] / total[..., -1:].clamp_min(1)


def _visible(target: Tensor, hidden: Tensor) -> Tensor:
    """1 for the visible patches and 0 for the hidden ones, (B, L, 1)."""
    return torch.ones_like(target[..., :1]).scatter(1, hidden.unsqueeze(-1), 0.0)


def _sum_of_three(x: Tensor, axis: int) -> Tensor:
    """Each entry plus its two neighbours along `axis`, zeros outside."""
    last = x.ndim - 1 - axis
    padded = functional.pad(x, (0, 0) * last + (1, 1))
    size = x.shape[axis]
    return padded.narrow(axis, 0, size) + padded.narrow(axis, 1, size) + padded.narrow(axis, 2, size)


def flat_patches(target: Tensor, hidden: Tensor, weight: Tensor | None = None) -> Tensor:
    """Predict each hidden patch as constant, at the mean of all visible values: 0 where patches are normalised.

    target (B, L, P), hidden (B, M) -> (B, M, P); weight (B, L, P) is 0 in padding, None if there is none.
    """
    shown = _visible(target, hidden) * (torch.ones_like(target) if weight is None else weight)
    mean = (target * shown).sum(dim=(1, 2)) / shown.sum(dim=(1, 2)).clamp_min(1)
    return mean[:, None, None].expand(-1, hidden.shape[1], target.shape[2])


class PositionMean:
    """Predict a hidden patch as the mean of all training patches seen so far at its position, padding included."""

    def __init__(self, total: Tensor, count: int = 0) -> None:
        """total (L, P): the sum of the `count` crops seen, zeros at first."""
        self.total, self.count = total, count

    def update(self, target: Tensor) -> None:
        """Learn from patches (B, L, P)."""
        self.total += target.sum(dim=0)
        self.count += target.shape[0]

    def predict(self, hidden: Tensor) -> Tensor:
        """hidden (B, M) -> (B, M, P); zeros before the first update."""
        mean = self.total / max(1, self.count)
        return gather_tokens(mean.unsqueeze(0), hidden)
