"""How much computing a training step is, counted by torch on tensors without memory.

FLOPs are two for a multiply and an add of matrix products and convolutions, as usual; norms, activations and the
optimiser do not count.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..networks import MAE, MaskedPretraining, ViT
from ..networks.vit import Attention


def training_flops(network: nn.Module) -> int:
    """Forward and backward of one crop or image: for a MAE, also in `MaskedPretraining`, a UNETR or a ViTClassifier."""
    network, inputs = on_meta(network)
    with FlopCounterMode(display=False) as counter:
        output_of(network, inputs).sum().backward()
    return counter.get_total_flops()


def on_meta(network: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A copy without memory, and what it takes: an image, and for a MAE which patches are kept and hidden."""
    network = network.mae if isinstance(network, MaskedPretraining) else network
    encoder = network if isinstance(network, ViT) else network.encoder
    image = torch.zeros(1, encoder.patch_embed.proj.in_channels, *encoder.img_size)
    inputs = [image, *(network.mask(image) if isinstance(network, MAE) else ())]
    counted = copy.deepcopy(network).to("meta")
    for module in counted.modules():
        if isinstance(module, Attention):
            module.explicit = True  # the fused backward computes its scores twice, which is no progress
    return counted, [tensor.to("meta") for tensor in inputs]


def output_of(network: nn.Module, inputs: list[Tensor]) -> Tensor:
    """What the loss sees."""
    return network.predict(*inputs).values if isinstance(network, MAE) else network(*inputs)
