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
from ..networks.vit import Attention, Transformer


def training_flops(network: nn.Module) -> int:
    """Forward and backward of one crop or image: for a MAE, also in `MaskedPretraining`, a UNETR or a ViTClassifier."""
    network, inputs = on_meta(network)
    with FlopCounterMode(display=False) as counter:
        output_of(network, inputs).sum().backward()
    return counter.get_total_flops()


def on_meta(network: nn.Module) -> tuple[nn.Module, list[Tensor]]:
    """A copy without memory, and what it takes: an image, and for a MAE which patches are kept and hidden.

    Computing something twice is no progress: neither the fused attention's backward nor checkpointing counts.
    """
    network = copy.deepcopy(network.mae if isinstance(network, MaskedPretraining) else network)
    encoder = network if isinstance(network, ViT) else network.encoder
    inputs = [torch.zeros(1, encoder.patch_embed.proj.in_channels, *encoder.img_size)]
    if isinstance(network, MAE):
        network.masking_ratio = (sum(network.masking_ratio) / 2,) * 2  # of a range, its middle
        inputs += network.mask(inputs[0])
    for module in network.modules():
        if isinstance(module, Attention):
            module.explicit = True
        elif isinstance(module, Transformer):
            module.use_checkpoint = False
    return network.to("meta"), [tensor.to("meta") for tensor in inputs]


def output_of(network: nn.Module, inputs: list[Tensor]) -> Tensor:
    """What the loss sees."""
    return network.predict(*inputs).values if isinstance(network, MAE) else network(*inputs)
