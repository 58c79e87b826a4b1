"""How a network is applied: in bfloat16 where the hardware has it, and to whole volumes for reconstruction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SlidingWindowInferer
from torch import Tensor

from .networks.mae import MAE


def has_bfloat16(device: torch.device | str) -> bool:
    """Whether bfloat16 arithmetic is native on the device; elsewhere it would be slower than single precision."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


class AutocastInferer(Inferer):
    """Another inferer under bfloat16 autocast, on CPU and GPU. (MONAI's `amp` is for CUDA only.)

    Args:
        inferer: for example SimpleInferer or SlidingWindowInferer.
        amp: False for single precision; True uses bfloat16 where `has_bfloat16`. Scores are single precision.
    """

    def __init__(self, inferer: Inferer, amp: bool = True) -> None:
        super().__init__()
        self.inferer, self.amp = inferer, amp

    def __call__(self, inputs: Tensor, network: Callable, *args: Any, **kwargs: Any) -> Any:
        enabled = self.amp and has_bfloat16(inputs.device)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=enabled):
            output = self.inferer(inputs, network, *args, **kwargs)
        return output.float() if isinstance(output, Tensor) and output.is_floating_point() else output


class ReconstructionInferer(Inferer):
    """A whole volume (1, C, H, W, D) through a `MAE`, window by window.

    Returns (1, C + 1, H, W, D): the reconstruction, and as last channel 1 where the input was visible. Windows do not
    overlap: the volume must be a multiple of the window, so pad it first (DivisiblePadd).
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    def __call__(self, inputs: Tensor, network: MAE, *args: Any, **kwargs: Any) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)

        def window(image: Tensor) -> Tensor:
            done = network.reconstruct(image, network.predict(image, *network.mask(image, generator)))
            return torch.cat([done.image, done.visible], dim=1)

        return SlidingWindowInferer(network.encoder.img_size, sw_batch_size=1, overlap=0)(inputs, window)
