"""The pre-training loss: mean squared error over hidden patches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from .networks.mae import Prediction
from .networks.tokens import gather_tokens, patch_statistics, patchify


class MaskedPatchLoss(nn.Module):
    """Mean squared error between predicted and true hidden patches (paper, section 2.1).

    Args:
        patch_size: voxels per axis of a patch.
        norm_pix_loss: compare with patches normalised by their own mean and biased variance.
    """

    def __init__(self, patch_size: Sequence[int], norm_pix_loss: bool = True) -> None:
        super().__init__()
        self.patch_size = [int(size) for size in patch_size]
        self.norm_pix_loss = norm_pix_loss

    def target(self, image: Tensor, valid: Tensor | None = None) -> Tensor:
        """What the decoder should say of every patch, (B, L, P) in single precision, 0 in padding.

        image (B, C, H, W, D); valid (B, 1, H, W, D), False where a crop was padded, which leaves the statistics alone;
        None if nothing was.
        """
        return self.normalised(
            patchify(image.float(), self.patch_size), None if valid is None else self.weight(image, valid)
        )

    def normalised(self, patches: Tensor, weight: Tensor | None = None) -> Tensor:
        """Patches (B, M, P) as the decoder should give them; weight (B, M, P), see `weight`, None without padding."""
        if self.norm_pix_loss:
            mean, spread = patch_statistics(patches, weight)
            patches = (patches - mean) / spread
        return patches if weight is None else patches * weight

    def weight(self, image: Tensor, valid: Tensor) -> Tensor:
        """1 for voxels that count and 0 for padding, (B, L, P), for every channel of `image`."""
        return patchify(valid.expand(-1, image.shape[1], *valid.shape[2:]).float(), self.patch_size)

    def forward(self, prediction: Prediction, target: dict[str, Tensor]) -> Tensor:
        """`target` holds "image" (B, C, H, W, D) and "valid" (B, 1, H, W, D), False where a crop was padded,
        or None if nothing was.

        Returns a scalar: padding is left out, voxel by voxel. Of several processes that train together, the mean of
        their losses is that of all their crops as one batch.
        """
        image, valid = target["image"], target["valid"]
        patches = gather_tokens(patchify(image.float(), self.patch_size), prediction.hidden)
        if valid is None:
            mean = functional.mse_loss(prediction.values.float(), self.normalised(patches))
            return over_processes(mean, patches.numel())
        weight = gather_tokens(self.weight(image, valid), prediction.hidden)
        error = (prediction.values.float() - self.normalised(patches, weight)).square()
        count = weight.sum()
        return over_processes((error * weight).sum() / count.clamp_min(1), count)


def over_processes(loss: Tensor, count: float | Tensor) -> Tensor:
    """A mean over `count` voxels, scaled so that its mean over processes is that over the voxels of all of them.

    Processes must call it at the same time where gradients are recorded, as in a training step; elsewhere, and in a
    single process, `loss` is returned as it is.
    """
    if not (torch.is_grad_enabled() and dist.is_available() and dist.is_initialized()):
        return loss
    own = torch.as_tensor(count, dtype=torch.float32, device=loss.device)
    total = own.clone()
    dist.all_reduce(total)
    return loss * (own * dist.get_world_size() / total.clamp_min(1))
