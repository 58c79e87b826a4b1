"""Which patches stay visible: random masking, uniform or weighted, at a fixed or a drawn ratio."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError
from .tokens import patchify


def random_masking(weight: Tensor, ratio: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Choose which patches of each sample stay visible, by weighted sampling without replacement.

    Args:
        weight: (B, L), larger = masked more often; all ones is the paper's uniform mask, 0 is masked last.
        ratio: the fraction MASKED; the nearest whole number of patches is hidden, the same in every sample, but never
            none and never all.
        generator: source of randomness, on the device of `weight`.

    Returns:
        (keep, hidden): patch indices (B, K) and (B, L - K), in random order.
    """
    count = weight.shape[1]
    keep_count = count - max(1, min(count - 1, int(ratio * count + 0.5)))
    if generator is None:  # spelt without the argument, because ONNX has no operator that takes one
        uniform = torch.rand(weight.shape, device=weight.device)
    else:
        uniform = torch.rand(weight.shape, generator=generator, device=weight.device)
    noise = uniform.clamp_min(1e-30).log() / weight
    order = noise.argsort(dim=1)  # most negative = smallest weight = kept first
    return order[:, :keep_count], order[:, keep_count:]


def foreground_weight(image: Tensor, patch_size: list[int], floor: float = 0.05) -> Tensor:
    """Masking weights (B, L) from the share of non-background voxels (not 0 in any channel) of each patch.

    Empty patches keep the weight `floor`, so that tissue is masked first but no patch is never masked.
    """
    tissue = (image != 0).any(dim=1, keepdim=True).float()
    return patchify(tissue, patch_size).mean(dim=2).clamp_min(floor)


def ratio_range(ratio: float | Sequence[float]) -> tuple[float, float]:
    """The masking ratio as a range (low, high); a number is a range of one. InputError outside (0, 1)."""
    low, high = (ratio, ratio) if isinstance(ratio, (int, float)) else tuple(ratio)
    if not 0 < low <= high < 1:
        raise InputError(f"masking_ratio {ratio} must lie strictly between 0 (nothing masked) and 1 (all masked)")
    return float(low), float(high)


def draw_ratio(low: float, high: float, generator: torch.Generator | None = None) -> float:
    """One ratio for a batch, uniform in [low, high]; a fixed ratio consumes no random number."""
    if low == high:
        return low
    return low + (high - low) * float(torch.rand([1], generator=generator))
