"""UNETR: the pre-trained Vision Transformer as encoder, MONAI's convolution blocks as decoder.

Hatamizadeh et al., WACV 2022, as the paper uses it (section 2.2): the class token stays inside the transformer and is
dropped where tokens become volumes. Each of log2(patch_size) stages doubles the resolution.
"""

from collections.abc import Sequence

import torch
from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrPrUpBlock, UnetrUpBlock
from torch import Tensor, nn

from ..errors import InputError
from .pointwise import make_pointwise
from .vit import ViT, tokens_to_volume


def count_stages(patch_size: Sequence[int]) -> int:
    """log2 of the patch size; raises InputError unless it is one power of two, at least 4, on every axis."""
    stages = int(patch_size[0]).bit_length() - 1
    if stages < 2 or any(size != 2**stages for size in patch_size):
        raise InputError(
            f"UNETR doubles the resolution stage by stage: patch_size {list(patch_size)} must be 4, 8, 16 or 32, "
            "the same along every axis"
        )
    return stages


def choose_skips(num_layers: int, count: int, skip_layers: Sequence[int] | None) -> list[int]:
    """The blocks (counted from 0) whose outputs feed the skip connections, shallowest first.

    Chosen evenly by default: 3, 6, 9 of 12 for patch 16, as in the paper's code.
    """
    if skip_layers is None:
        return [num_layers * (i + 1) // (count + 1) for i in range(count)]
    layers = [int(layer) for layer in skip_layers]
    if len(layers) != count or sorted(layers) != layers or not all(0 <= layer < num_layers for layer in layers):
        raise InputError(f"skip_layers {layers} must be {count} ascending block numbers below {num_layers}")
    return layers


class UNETRDecoder(nn.Module):
    """Convolutional decoder: image and token volumes -> logits at full resolution.

    feature_size channels at full resolution, doubled at every coarser stage.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        hidden_size: int,
        stages: int,
        feature_size: int,
        norm_name: str,
    ) -> None:
        super().__init__()
        widths = [feature_size * 2**stage for stage in range(stages)]  # finest first
        block = {"kernel_size": 3, "norm_name": norm_name, "res_block": True}
        self.image_block = UnetrBasicBlock(spatial_dims, in_channels, feature_size, stride=1, **block)
        self.skip_blocks = nn.ModuleList(
            UnetrPrUpBlock(
                spatial_dims, hidden_size, widths[stage], num_layer=stages - 1 - stage,
                stride=1, upsample_kernel_size=2, conv_block=True, **block,
            )
            for stage in range(1, stages)
        )  # fmt: skip
        self.up_blocks = nn.ModuleList(
            UnetrUpBlock(spatial_dims, wide, narrow, upsample_kernel_size=2, **block)
            for wide, narrow in zip([hidden_size, *widths[:0:-1]], widths[::-1], strict=True)
        )
        self.out = UnetOutBlock(spatial_dims, feature_size, out_channels)
        make_pointwise(self)

    def forward(self, image: Tensor, skips: list[Tensor], deepest: Tensor) -> Tensor:
        """image (B, C, H, W, D), skips and deepest (B, hidden, gh, gw, gd), shallowest first -> (B, out, H, W, D)."""
        features = [self.image_block(image)]
        for index, block in enumerate(self.skip_blocks):
            features.append(block(skips[index]))
        x = deepest
        for index, block in enumerate(self.up_blocks):
            x = block(x, features[len(features) - 1 - index])
        return self.out(x)


class UNETR(nn.Module):
    """ViT encoder and convolutional decoder for segmentation, any depth, patch size 4, 8, 16 or 32.

    Args:
        in_channels, img_size, patch_size, hidden_size, num_layers, num_heads, mlp_dim, drop_path_rate, attention,
            use_checkpoint: the encoder, see `ViT`; its position embedding is learnable.
        out_channels: classes, the background among them.
        feature_size: channels at full resolution.
        norm_name: normalisation of the convolution blocks.
        skip_layers: encoder blocks for the skip connections, see `choose_skips`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        img_size: Sequence[int],
        patch_size: int | Sequence[int] = 16,
        feature_size: int = 16,
        hidden_size: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        mlp_dim: int | None = None,
        drop_path_rate: float = 0.0,
        norm_name: str = "instance",
        skip_layers: Sequence[int] | None = None,
        attention: str = "sdpa",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = ViT(
            in_channels, img_size, patch_size, hidden_size, num_layers, num_heads, mlp_dim,
            "learnable", drop_path_rate, attention, use_checkpoint,
        )  # fmt: skip
        stages = count_stages(self.encoder.patch_size)
        self.skip_layers = choose_skips(num_layers, stages - 1, skip_layers)
        self.grid = self.encoder.grid
        self.decoder = UNETRDecoder(
            len(self.grid), in_channels, out_channels, hidden_size, stages, feature_size, norm_name
        )

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves alone."""
        return {"encoder.cls_token", "encoder.pos_embed"}

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, H, W, D) of the size `img_size` -> logits (B, out_channels, H, W, D)."""
        tokens, hidden = self.encoder(image)
        skips: list[Tensor] = []
        for layer in self.skip_layers:
            skips.append(tokens_to_volume(hidden[layer], self.grid))
        return self.decoder(image, skips, tokens_to_volume(tokens, self.grid))
