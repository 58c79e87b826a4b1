"""The masked autoencoder of the paper: encode the visible patches, predict the hidden ones.

Zhou et al., "Self Pre-training with Masked Autoencoders for Medical Image Classification and Segmentation",
ISBI 2023, section 2.1, after He et al., CVPR 2022. Written from the published description and numbers.
"""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from .masking import draw_ratio, foreground_weight, random_masking, ratio_range
from .tokens import gather_tokens, patch_statistics, patchify, sincos_position, unpatchify
from .vit import Transformer, ViT


class Prediction(NamedTuple):
    """What the decoder says of the hidden patches: values (B, M, ph*pw*pd*C) for the patch indices (B, M)."""

    values: Tensor
    hidden: Tensor


class Reconstruction(NamedTuple):
    """An image (B, C, H, W, D) whose hidden patches are predicted, and where the input was visible (B, 1, H, W, D)."""

    image: Tensor
    visible: Tensor


class MAEDecoder(Transformer):
    """Light transformer from encoder tokens and mask tokens to the voxels of each patch."""

    def __init__(
        self,
        in_size: int,
        patch_vector: int,
        grid: Sequence[int],
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        attention: str = "sdpa",
    ) -> None:
        super().__init__(hidden_size, num_layers, num_heads, attention=attention)
        self.embed = nn.Linear(in_size, hidden_size)
        nn.init.xavier_uniform_(self.embed.weight)  # the bias keeps its default, as in the paper's code
        self.mask_token = nn.Parameter(torch.randn(1, 1, hidden_size) * 0.02)
        self.pos_embed = nn.Parameter(sincos_position(grid, hidden_size), requires_grad=False)
        self.head = nn.Linear(hidden_size, patch_vector)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, latent: Tensor, keep: Tensor, hidden: Tensor) -> Tensor:
        """latent (B, 1 + K, E), keep (B, K), hidden (B, M) -> tokens (B, 1 + K + M, D): class, visible, hidden.

        The order of tokens does not matter to a transformer, so visible and hidden ones are not interleaved again.
        """
        tokens = self.embed(latent)
        cls_token, visible = tokens[:, :1], tokens[:, 1:] + gather_tokens(self.pos_embed, keep)
        masked = self.mask_token + gather_tokens(self.pos_embed, hidden)
        return self.transform(torch.cat([cls_token, visible, masked.to(visible.dtype)], dim=1))[0]


class MAE(nn.Module):
    """Masked autoencoder. `forward` reconstructs an image; training goes through `predict`.

    Args:
        in_channels, img_size, patch_size, hidden_size, num_layers, num_heads, mlp_dim: the encoder, see `ViT`.
        decoder_hidden_size, decoder_num_layers, decoder_num_heads: the decoder.
        masking_ratio: the fraction MASKED, or a range from which every batch draws one.
        norm_pix_loss: predictions are of patches normalised to zero mean and unit variance.
        foreground_masking: mask patches that hold tissue (values other than 0) first.
        attention: "sdpa" or "explicit".
    """

    def __init__(
        self,
        in_channels: int,
        img_size: Sequence[int],
        patch_size: int | Sequence[int],
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_dim: int | None = None,
        decoder_hidden_size: int = 384,
        decoder_num_layers: int = 8,
        decoder_num_heads: int = 12,
        masking_ratio: float | Sequence[float] = 0.75,
        norm_pix_loss: bool = True,
        foreground_masking: bool = False,
        attention: str = "sdpa",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = ViT(
            in_channels, img_size, patch_size, hidden_size, num_layers, num_heads, mlp_dim,
            attention=attention, use_checkpoint=use_checkpoint,
        )  # fmt: skip
        self.grid, self.patch_size = self.encoder.grid, self.encoder.patch_size
        vector = prod(self.patch_size) * in_channels
        self.decoder = MAEDecoder(
            hidden_size, vector, self.grid, decoder_hidden_size, decoder_num_layers, decoder_num_heads, attention
        )
        self.masking_ratio = ratio_range(masking_ratio)
        self.norm_pix_loss = norm_pix_loss
        self.foreground_masking = foreground_masking

    def mask(self, image: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw which patches of (B, C, H, W, D) stay visible -> keep (B, K), hidden (B, M)."""
        if self.foreground_masking:
            weight = foreground_weight(image, self.patch_size)
        else:
            weight = torch.ones(image.shape[0], self.decoder.pos_embed.shape[1], device=image.device)
        if generator is not None:
            weight = weight.cpu()  # generators live on the CPU, so that every device draws the same mask
        ratio = draw_ratio(self.masking_ratio[0], self.masking_ratio[1], generator)
        keep, hidden = random_masking(weight, ratio, generator)
        return keep.to(image.device), hidden.to(image.device)

    def encode(self, image: Tensor, keep: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embed and encode only the visible patches -> tokens (B, 1 + K, D) and each block's output."""
        patches = gather_tokens(patchify(image, self.patch_size), keep)
        position = gather_tokens(self.encoder.pos_embed[:, 1:], keep)
        return self.encoder.transform(self.encoder.embed(patches, position))

    def predict(self, image: Tensor, keep: Tensor, hidden: Tensor) -> Prediction:
        """Predict the hidden patches of `image` (B, C, H, W, D) from the visible ones."""
        latent = self.encode(image, keep)[0]
        tokens = self.decoder(latent, keep, hidden)
        return Prediction(self.decoder.head(tokens[:, 1 + keep.shape[1] :]), hidden)

    def reconstruct(self, image: Tensor, prediction: Prediction) -> Reconstruction:
        """Put predicted patches into the image.

        With norm_pix_loss the mean and spread of each hidden patch come from the input itself: the prediction is
        of structure, not of brightness, as in the paper's figures.
        """
        patches = patchify(image.float(), self.patch_size)
        values = prediction.values.float()
        if self.norm_pix_loss:
            mean, spread = patch_statistics(gather_tokens(patches, prediction.hidden))
            values = values * spread + mean
        index = prediction.hidden.unsqueeze(-1)
        filled = patches.scatter(1, index.expand(-1, -1, patches.shape[2]), values)
        visible = torch.ones_like(patches[:, :, : patches.shape[2] // image.shape[1]])
        visible = visible.scatter(1, index.expand(-1, -1, visible.shape[2]), 0.0)
        return Reconstruction(
            unpatchify(filled, self.grid, self.patch_size), unpatchify(visible, self.grid, self.patch_size)
        )

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) -> the same shape with a random share of patches hidden and predicted."""
        keep, hidden = self.mask(image)
        return self.reconstruct(image, self.predict(image, keep, hidden)).image


class MaskedPretraining(nn.Module):
    """The network of a pre-training step: draw a mask, then predict the hidden patches.

    The mask of step n is a function of (seed, n) alone, and n is saved with the weights, so that a resumed run
    draws what an unbroken one would have drawn. Each process of a distributed run should get its own seed.
    """

    def __init__(self, mae: MAE, seed: int = 0) -> None:
        super().__init__()
        self.mae = mae
        self.seed = seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, image: Tensor) -> Prediction:
        """(B, C, H, W, D) -> Prediction of the hidden patches."""
        if tuple(image.shape[2:]) != tuple(self.mae.encoder.img_size):
            raise InputError(
                f"crop {tuple(image.shape[2:])} is not the img_size {tuple(self.mae.encoder.img_size)} of the network; "
                "set roi_size and img_size to the same"
            )
        generator = step_generator(self.seed, int(self.step))
        self.step += 1
        return self.mae.predict(image, *self.mae.mask(image, generator))


def step_generator(seed: int, step: int) -> torch.Generator:
    """Randomness of one step. Torch's CPU generator heeds 32 bits of a seed, so both numbers are mixed into them."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, step)).generate_state(1)[0]))
