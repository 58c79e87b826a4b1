"""The paper's optimiser: AdamW with layer-wise decay, a linear warm-up and a half cosine, set at every iteration."""

from __future__ import annotations

import math
import re

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from .errors import InputError


def layer_id(name: str, num_layers: int) -> int:
    """Depth of a parameter of a UNETR or ViT: 0 = embedding, i + 1 = block i, num_layers + 1 = all that is new.

    The final norm, heads and convolution decoders are new: they learn at the full rate.
    """
    name = name.removeprefix("encoder.")
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed."):
        return 0
    block = re.match(r"blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else num_layers + 1


def parameter_groups(
    network: nn.Module, learning_rate: float, weight_decay: float, layer_decay: float | None = None
) -> list[dict]:
    """Optimiser groups by weight decay and by depth.

    Vectors, biases and the names in `network.no_weight_decay()` are not decayed. With layer_decay d, block i of n
    learns at learning_rate * d ** (n - i), the embedding at d ** (n + 1) (as in BEiT, Bao et al. 2022).
    """
    kept = network.no_weight_decay() if hasattr(network, "no_weight_decay") else set()
    encoder = getattr(network, "encoder", network)
    num_layers = len(encoder.blocks) if layer_decay else 0
    groups: dict[tuple[bool, int], dict] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        decayed = parameter.ndim > 1 and not name.endswith(".bias") and name not in kept
        depth = layer_id(name, num_layers) if layer_decay else 0
        scale = layer_decay ** (num_layers + 1 - depth) if layer_decay else 1.0
        group = groups.setdefault(
            (decayed, depth),
            {"params": [], "lr": learning_rate * scale, "weight_decay": weight_decay if decayed else 0.0},
        )
        group["params"].append(parameter)
    return list(groups.values())


def adamw(
    network: nn.Module,
    learning_rate: float,
    weight_decay: float = 0.05,
    betas: tuple[float, float] = (0.9, 0.95),
    layer_decay: float | None = None,
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, fused where torch offers it (CPU and CUDA)."""
    groups = parameter_groups(network, learning_rate, weight_decay, layer_decay)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(groups, lr=learning_rate, betas=tuple(betas), fused=devices <= {"cpu", "cuda"})


def warmup_cosine(optimizer: torch.optim.Optimizer, warmup_steps: int, total_steps: int) -> LambdaLR:
    """Learning rate from 0 linearly to its peak at `warmup_steps`, then along a half cosine to 0 at `total_steps`.

    Step once an iteration; every group keeps its own peak. InputError for a warm-up as long as the training.
    """
    if 0 < total_steps <= warmup_steps:
        raise InputError(
            f"the warm-up of {warmup_steps} steps leaves nothing of the {total_steps} steps of training; set "
            "warmup_epochs below max_epochs, 0 for a short run"
        )

    def factor(step: int) -> float:
        if step < warmup_steps:
            return step / warmup_steps
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return LambdaLR(optimizer, factor)
