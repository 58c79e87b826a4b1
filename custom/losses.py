"""The pre-training loss: mean squared error over hidden patches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

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

    def target(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> what the decoder should say of every patch, (B, L, P) in single precision."""
        patches = patchify(image.float(), self.patch_size)
        if not self.norm_pix_loss:
            return patches
        mean, spread = patch_statistics(patches)
        return (patches - mean) / spread

    def flat(self, target: Tensor) -> Tensor:
        """Patches of `target` (B, M, P) as if each were constant at its own mean: 0 once patches are normalised."""
        return target.mean(dim=2, keepdim=True).expand_as(target)

    def forward(self, prediction: Prediction, target: dict[str, Tensor]) -> Tensor:
        """`target` holds "image" (B, C, H, W, D) and "valid" (B, 1, H, W, D), False where a crop was padded.

        Returns a scalar: padding is left out, voxel by voxel.
        """
        image, valid = target["image"], target["valid"]
        channels = image.shape[1]
        error = (prediction.values.float() - gather_tokens(self.target(image), prediction.hidden)).square()
        weight = patchify(valid.expand(-1, channels, *valid.shape[2:]).float(), self.patch_size)
        weight = gather_tokens(weight, prediction.hidden)
        return (error * weight).sum() / weight.sum().clamp_min(1)
