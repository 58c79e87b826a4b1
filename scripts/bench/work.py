"""What one crop asks of a GPU, counted by torch on tensors without memory.

FLOPs are two for a multiply and an add of matrix products and convolutions, as usual; norms, activations and the
optimiser do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from custom.networks import UNETR
from custom.study.flops import on_meta, output_of


@dataclass(frozen=True)
class Work:
    """Of forward and backward of one crop.

    flops; launches: operations that are not mere views, one kernel each where nothing is fused; saved: numbers kept
    for the backward; parameters: of the network, fixed ones left out.
    """

    flops: int
    launches: int
    saved: int
    parameters: int


def training_work(network: nn.Module) -> Work:
    """Of a MAE, also inside `MaskedPretraining`, or a UNETR."""
    network, inputs = on_meta(network)
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = max(kept.get(storage, 0), tensor.numel())
        return tensor

    with FlopCounterMode(display=False) as counter, Launches() as launches:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            output = output_of(network, inputs).sum()
        output.backward()
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return Work(counter.get_total_flops(), launches.count, sum(kept.values()), trained)


@torch.no_grad()
def inference_flops(network: UNETR) -> int:
    """Forward of one window."""
    network, inputs = on_meta(network)
    with FlopCounterMode(display=False) as counter:
        output_of(network, inputs)
    return counter.get_total_flops()


class Launches(TorchDispatchMode):
    """Counts the operations that compute something."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))
