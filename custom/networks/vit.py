"""The Vision Transformer of the paper, for images of any number of axes, grid, patch size and channels."""

from collections.abc import Sequence
from math import prod

import torch
from monai.networks.layers import DropPath
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ..errors import InputError
from .tokens import patch_grid, patchify, per_axis, sincos_position

LAYER_NORM_EPS = 1e-6


class PatchEmbedding(nn.Module):
    """Linear projection of patch vectors, stored as the strided convolution that it equals."""

    def __init__(self, in_channels: int, patch_size: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        convolution = nn.Conv3d if len(patch_size) == 3 else nn.Conv2d
        self.proj = convolution(in_channels, hidden_size, tuple(patch_size), tuple(patch_size))

    def forward(self, patches: Tensor) -> Tensor:
        """(B, K, ph*pw*pd*C) as cut by `patchify` -> (B, K, hidden). Only the patches given are embedded."""
        weight = self.proj.weight.movedim(1, -1).flatten(1)  # channel fastest, as in a patch vector
        return functional.linear(patches, weight, self.proj.bias)


class Attention(nn.Module):
    """Multi-head self-attention. `backend`: "sdpa" (fused, for GPUs) or "explicit" (faster in bf16 on CPUs)."""

    def __init__(self, hidden_size: int, num_heads: int, backend: str = "sdpa") -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise InputError(f"hidden_size {hidden_size} is not a multiple of num_heads {num_heads}")
        if backend not in ("sdpa", "explicit"):
            raise InputError(f"attention backend '{backend}' is unknown; use 'sdpa' or 'explicit'")
        self.num_heads = num_heads
        self.scale = (hidden_size // num_heads) ** -0.5
        self.explicit = backend == "explicit"
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).reshape(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]  # (B, heads, N, d)
        if self.explicit:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(dim=-1) @ v
        else:
            x = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, length, width))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, hidden_size: int, mlp_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(hidden_size, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block with stochastic depth (drop path, per sample) on both residual branches."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_dim: int, drop_path: float, attention: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.attn = Attention(hidden_size, num_heads, attention)
        self.norm2 = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.mlp = MLP(hidden_size, mlp_dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """A stack of blocks and a final norm: (B, N, D) -> normalised tokens (B, N, D) and each block's output."""

    def __init__(
        self,
        hidden_size: int,
        num_layers: int,
        num_heads: int,
        mlp_dim: int | None = None,
        drop_path_rate: float = 0.0,
        attention: str = "sdpa",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        rates = torch.linspace(0, drop_path_rate, num_layers).tolist()  # deeper blocks are dropped more often
        width = mlp_dim or 4 * hidden_size
        self.blocks = nn.ModuleList([Block(hidden_size, num_heads, width, rate, attention) for rate in rates])
        self.norm = nn.LayerNorm(hidden_size, eps=LAYER_NORM_EPS)
        self.use_checkpoint = use_checkpoint
        self.apply(init_linear)

    @torch.jit.unused
    def recompute(self, index: int, x: Tensor) -> Tensor:
        """Run a block without storing its activations: less memory, one more forward pass."""
        return checkpoint(self.blocks[index], x, use_reentrant=False)

    def transform(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, N, D) -> final tokens (B, N, D), list of the `num_layers` block outputs before the final norm."""
        hidden: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = self.recompute(index, x) if self.use_checkpoint and self.training else block(x)
            hidden.append(x)
        return self.norm(x), hidden


def init_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for every linear layer, as in the paper's code."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def init_token(token: nn.Parameter) -> None:
    """N(0, 0.02) cut at one standard deviation, as the paper's fine-tuning networks start."""
    nn.init.trunc_normal_(token, std=0.02, a=-0.02, b=0.02)


class ViT(Transformer):
    """Vision Transformer encoder with a class token.

    Args:
        in_channels: channels of the image.
        img_size: size of the image, one integer per spatial axis; its length decides between 2-D and 3-D.
        patch_size: one integer, or one per axis; must divide img_size.
        pos_embed: "sincos" (fixed, class token at 0: pre-training) or "learnable" (fine-tuning).
        drop_path_rate: stochastic depth of the last block; grows linearly from 0.
        attention: "sdpa" or "explicit".
        use_checkpoint: recompute activations in the backward pass to save memory.
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
        pos_embed: str = "sincos",
        drop_path_rate: float = 0.0,
        attention: str = "sdpa",
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__(hidden_size, num_layers, num_heads, mlp_dim, drop_path_rate, attention, use_checkpoint)
        self.img_size = [int(size) for size in img_size]
        self.patch_size = per_axis(patch_size, len(self.img_size), "patch_size")
        self.grid = patch_grid(self.img_size, self.patch_size)
        self.register_buffer("grid_size", torch.tensor(self.grid))  # so that weights tell which grid they are for
        self.patch_embed = PatchEmbedding(in_channels, self.patch_size, hidden_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + prod(self.grid), hidden_size))  # the class token's first
        if pos_embed == "sincos":
            self._init_pretraining()
        elif pos_embed == "learnable":
            init_token(self.cls_token)
            init_token(self.pos_embed)
        else:
            raise InputError(f"pos_embed '{pos_embed}' is unknown; use 'sincos' or 'learnable'")

    def _init_pretraining(self) -> None:
        """Fixed positions, Xavier patch projection, N(0, 0.02) class token, as the paper's MAE starts."""
        nn.init.xavier_uniform_(self.patch_embed.proj.weight.view(self.pos_embed.shape[2], -1))
        nn.init.normal_(self.cls_token, std=0.02)
        self.pos_embed.data[:, 1:] = sincos_position(self.grid, self.pos_embed.shape[2])
        self.pos_embed.requires_grad = False

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay leaves alone."""
        return {"cls_token", "pos_embed"}

    def embed(self, patches: Tensor, position: Tensor) -> Tensor:
        """Patch vectors (B, K, P) with their positions (B or 1, K, D) -> tokens (B, 1 + K, D), class token first."""
        tokens = self.patch_embed(patches) + position
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(tokens.shape[0], -1, -1)
        return torch.cat([cls_token.to(tokens.dtype), tokens], dim=1)

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W, D) -> tokens (B, 1 + L, D) after the final norm, and each block's output."""
        tokens = self.embed(patchify(image, self.patch_size), self.pos_embed[:, 1:])
        return self.transform(tokens)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same as `encode`; subclasses go on from there."""
        return self.encode(image)


def tokens_to_volume(tokens: Tensor, grid: list[int]) -> Tensor:
    """Drop the class token and put patch tokens on their grid: (B, 1 + L, D) -> (B, D, gh, gw, gd)."""
    volume = tokens[:, 1:].reshape([tokens.shape[0]] + grid + [-1])
    return volume.movedim(-1, 1)


class ViTClassifier(ViT):
    """Vision Transformer with a linear head on the class token: (B, C, H, W) -> logits (B, num_classes)."""

    def __init__(
        self,
        in_channels: int,
        img_size: Sequence[int],
        patch_size: int | Sequence[int],
        num_classes: int,
        **vit: object,
    ) -> None:
        super().__init__(in_channels, img_size, patch_size, **vit)
        self.head = nn.Linear(self.cls_token.shape[2], num_classes)
        init_linear(self.head)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.encode(image)[0][:, 0])
