"""A larger UNETR that computes what a trained small one does: every channel several times.

Speed of a ViT-B needs no training, but how labels are made depends on what the network says. Copies of a channel stay
copies through every layer, so the larger network's scores are the small one's (after Chen et al., Net2Net, ICLR 2016).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def widen(small: nn.Module, large: nn.Module) -> nn.Module:
    """Fill the weights of `large` from those of `small`, a UNETR whose widths divide its own."""
    weights, target = small.state_dict(), large.state_dict()
    transposed = {f"{name}.weight" for name, part in small.named_modules() if isinstance(part, nn.ConvTranspose3d)}
    large.load_state_dict({name: widened(name, weights[name], target[name], name in transposed) for name in weights})
    return large


def widened(name: str, weight: Tensor, target: Tensor, transposed: bool) -> Tensor:
    """`weight` with its output and input channels repeated to the shape of `target`; inputs share their sum."""
    if weight.shape == target.shape:
        return weight
    if weight.ndim < 2 or name.endswith(("cls_token", "pos_embed")):
        return repeated(weight, weight.ndim - 1, target.shape[-1], 3 if "qkv" in name else 1)
    outputs, inputs = (1, 0) if transposed else (0, 1)
    joined = ".up_blocks." in name and name.endswith(("conv1.conv.weight", "conv3.conv.weight"))
    wide = repeated(weight, outputs, target.shape[outputs], 3 if "qkv" in name else 1)
    share = weight.shape[inputs] / target.shape[inputs]
    return repeated(wide, inputs, target.shape[inputs], 2 if joined else 1) * share


def repeated(weight: Tensor, axis: int, size: int, parts: int) -> Tensor:
    """`axis` repeated to `size`, each of its `parts` (query, key and value, or two joined inputs) on its own."""
    times = size // weight.shape[axis]
    return torch.cat([piece for part in weight.chunk(parts, axis) for piece in [part] * times], dim=axis)
