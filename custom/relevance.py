"""Where a classifier looked: a map over the image for one finding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .networks import ViTClassifier
from .networks.tokens import patchify


def relevance(network: ViTClassifier, image: Tensor, finding: int) -> Tensor:
    """Where the network looked for one finding: image (1, C, H, W) -> (H, W), from 0 to 1.

    Gradient times activation of the patch tokens before the last block, positive parts only, summed over channels
    (Grad-CAM, Selvaraju et al. 2017, on a Vision Transformer), enlarged bilinearly. It is no outline of a finding.
    """
    *first, last = network.blocks
    with torch.no_grad():
        before = network.embed(patchify(image, network.patch_size), network.pos_embed[:, 1:])
        for block in first:
            before = block(before)
    with torch.enable_grad():
        tokens = before.detach().requires_grad_()
        logit = network.head(network.norm(last(tokens))[:, 0])[0, finding]
        (gradient,) = torch.autograd.grad(logit, tokens)
    weight = (gradient * tokens.detach()).sum(dim=2)[:, 1:].clamp_min(0)
    grid = weight.reshape(1, 1, *network.grid) / weight.max().clamp_min(1e-12)
    return functional.interpolate(grid.float(), size=image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
