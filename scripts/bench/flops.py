"""Floating-point operations of one crop, counted by torch on tensors without memory: two for a multiply and an add.

Matrix products and convolutions count, as usual; norms, activations and the optimiser do not.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from custom.networks import MAE, UNETR, MaskedPretraining
from custom.networks.vit import Attention


def training_flops(network: nn.Module) -> int:
    """Forward and backward of one crop through a MAE (also inside `MaskedPretraining`) or a UNETR."""
    return _count(network, backward=True)


def inference_flops(network: UNETR) -> int:
    """Forward of one window."""
    return _count(network, backward=False)


def _count(network: nn.Module, backward: bool) -> int:
    network = network.mae if isinstance(network, MaskedPretraining) else network
    image = torch.zeros(1, network.encoder.patch_embed.proj.in_channels, *network.encoder.img_size)
    masks = network.mask(image) if isinstance(network, MAE) else ()
    counted = copy.deepcopy(network).to("meta")
    for module in counted.modules():
        if isinstance(module, Attention):
            module.explicit = True  # the fused backward computes its scores twice, which is no progress
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        output = _output(counted, image.to("meta"), [mask.to("meta") for mask in masks])
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


def _output(network: nn.Module, image: Tensor, masks: list[Tensor]) -> Tensor:
    return network.predict(image, *masks).values if masks else network(image)
