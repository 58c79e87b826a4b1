"""Weights of other projects as ours: renamed, repaired, every tensor accounted for.

Formats are recognised by their keys: SelfMedMAE (the published code), facebookresearch/mae and timm, MONAI's
MaskedAutoEncoderViT, ViT and ViTAutoEnc, and our own. MONAI's layer norms have an epsilon of 1e-5 where ours, as
published, have 1e-6: outputs agree to about 1e-3 unless that is set too.
"""

from __future__ import annotations

import logging
import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from .checkpoints import read_weights
from .errors import InputError

logger = logging.getLogger(__name__)

Weights = dict[str, Tensor]
Rules = Sequence[tuple[str, str]]  # their name -> our name, as regular expressions, the first that matches

SELFMEDMAE_MAE: Rules = (
    (r"^encoder_to_decoder\.", "decoder.embed."),
    (r"^encoder_pos_embed$", "encoder.pos_embed"),
    (r"^decoder_pos_embed$", "decoder.pos_embed"),
    (r"^mask_token$", "decoder.mask_token"),
)
UNETR_BLOCKS = {
    "encoder1": "image_block", "encoder2": "skip_blocks.0", "encoder3": "skip_blocks.1", "encoder4": "skip_blocks.2",
    "decoder5": "up_blocks.0", "decoder4": "up_blocks.1", "decoder3": "up_blocks.2", "decoder2": "up_blocks.3",
}  # fmt: skip
SELFMEDMAE_UNETR: Rules = tuple((rf"^decoder\.{theirs}\.", f"decoder.{ours}.") for theirs, ours in UNETR_BLOCKS.items())
FACEBOOK_MAE: Rules = (
    (r"^decoder_(blocks|norm)\.", r"decoder.\1."),
    (r"^decoder_embed\.", "decoder.embed."),
    (r"^decoder_pred\.", "decoder.head."),
    (r"^decoder_pos_embed$", "decoder.pos_embed"),
    (r"^mask_token$", "decoder.mask_token"),
    (r"^(cls_token|pos_embed|patch_embed|blocks|norm)", r"encoder.\1"),
)
MONAI_PARTS: Rules = (
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.linear(\d)\.", r".mlp.fc\1."),
    (r"^patch_embedding\.patch_embeddings\.", "patch_embed.proj."),
    (r"^patch_embedding\.position_embeddings$", "pos_embed"),
    (r"^classification_head(\.0)?\.", "head."),
    (r"^mask_tokens$", "mask_token"),
    (r"^decoder_pos_embedding$", "decoder_pos_embed"),
)
TANH_HEAD = "classification_head.0.weight"  # MONAI's ViT puts its head into a sequence for the tanh that follows it
# What a format has and nothing needs: MONAI's cross attention norms and ViTAutoEnc's decoder, and the projections that
# MONAI's residual blocks always had until 2022.
UNUSED = r"norm_cross_attn|^conv3d_transpose|^decoder\.encoder\d\.blocks\.\d\.1\.conv3\."
BLOCK = r"(blocks\.\d+\.(norm1|norm2|attn\.qkv|attn\.proj|mlp\.fc1|mlp\.fc2)|norm)\.(weight|bias)"
OURS = (
    rf"^(encoder\.)?({BLOCK}|patch_embed\.proj\.(weight|bias)|cls_token|pos_embed|grid_size)$|^head\.(weight|bias)$|"
    rf"^decoder\.({BLOCK}|(embed|head)\.(weight|bias)|mask_token|pos_embed)$|"
    r"^decoder\.(image_block|skip_blocks|up_blocks|out)\."
)


def renamed(weights: Weights, rules: Rules) -> Weights:
    """Every key by the first of `rules` that matches it."""

    def name(key: str) -> str:
        for pattern, replacement in rules:
            if re.search(pattern, key):
                return re.sub(pattern, replacement, key)
        return key

    return {name(key): value for key, value in weights.items()}


def recognise(weights: Weights) -> str:
    """The format of `weights` by its keys; InputError with what was expected if it is none."""
    for name, (keys, _) in FORMATS.items():
        if all(key in weights for key in keys):
            return name
    expected = "; ".join(f"{name}: {', '.join(keys)}" for name, (keys, _) in FORMATS.items())
    raise InputError(f"weights with keys such as {sorted(weights)[0]!r} are of no known format; expected {expected}")


def read_foreign(path: str | Path) -> Weights:
    """`read_weights` of a checkpoint that may hold its command line, as facebookresearch/mae and SelfMedMAE save it."""
    # Safe: reading still executes nothing, a Namespace only keeps attributes, and those must be plain values too.
    with torch.serialization.safe_globals([Namespace]):
        return read_weights(path)


def to_custom(weights: Weights, grid: Sequence[int] | None = None) -> Weights:
    """Weights of any known format as those of our MAE, UNETR, ViTClassifier or, without a decoder, encoder.

    Args:
        weights: a state dict without wrapper.
        grid: patches per axis; None assumes a square or cubic grid, and logs it, unless the weights carry theirs.

    Raises:
        InputError: an unknown format, a `grid` that contradicts the weights, or none where patches form no square or
            cube.
    """
    weights = {key.removeprefix("module."): value for key, value in weights.items()}
    name = recognise(weights)
    logger.info(f"recognised {name}, {len(weights)} tensors")
    unused = [key for key in weights if re.search(UNUSED, key)]
    if unused:
        logger.info(f"left out {len(unused)} tensors that no output depends on, first {unused[0]}")
    read = FORMATS[name][1]
    try:
        done = read({key: value for key, value in weights.items() if key not in unused}, grid)
    except (LookupError, TypeError, RuntimeError, ArithmeticError) as error:  # none, or one of other axes
        raise InputError(f"{name} weights lack a tensor or have one of another shape ({error}); export it") from error
    strange = [key for key in done if not re.search(OURS, key)]
    if strange:
        raise InputError(f"{name} weights hold {strange[0]!r}, for which there is no place; remove it from the file")
    return done


def from_custom(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """Our own networks, which carry their grid: another one is a mistake."""
    own = weights["encoder.grid_size" if "encoder.grid_size" in weights else "grid_size"].tolist()
    if grid and list(grid) != own:
        raise InputError(f"these weights carry their grid, {own}, which is not the {list(grid)} given; leave it out")
    return weights


def from_selfmedmae_mae(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """The published MAE. In 2-D its patch projection is repaired, and a head of Fourier features is left out."""
    ours = renamed(weights, SELFMEDMAE_MAE)
    ours.setdefault("decoder.embed.bias", torch.zeros_like(ours["decoder.embed.weight"][:, 0]))
    projection = ours["encoder.patch_embed.proj.weight"]
    if projection.ndim == 4:
        width, channels, *patch = projection.shape
        ours["encoder.patch_embed.proj.weight"] = projection.permute(0, 2, 3, 1).reshape(width, channels, *patch)
        if len(ours["decoder.head.bias"]) != channels * prod(patch):
            logger.info("left out the decoder, which predicts Fourier features")
            ours = {key: value for key, value in ours.items() if key.startswith("encoder.")}
        else:
            ours |= {key: pixels_last(ours[key], channels) for key in ("decoder.head.weight", "decoder.head.bias")}
    return with_positions(ours, "encoder.", grid)


def pixels_last(head: Tensor, channels: int) -> Tensor:
    """A head (C * pixels, ...) that predicts channel by channel -> (pixels * C, ...)."""
    return head.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)


def from_selfmedmae_unetr(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """The published UNETR."""
    return with_positions(renamed(weights, SELFMEDMAE_UNETR), "encoder.", grid)


def from_facebook_mae(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """facebookresearch/mae with its decoder."""
    return with_positions(renamed(weights, FACEBOOK_MAE), "encoder.", grid)


def from_vit(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """timm's ViT, the published classifier, and facebookresearch/mae without its decoder."""
    return with_positions(dict(weights), "", grid)


def from_monai(weights: Weights, grid: Sequence[int] | None) -> Weights:
    """MONAI's MaskedAutoEncoderViT, ViT and ViTAutoEnc."""
    if TANH_HEAD in weights:
        logger.warning(
            "this ViT was built with MONAI's default post_activation='Tanh', and our head ends without one: "
            "apply tanh to our network's outputs to get theirs"
        )
    theirs = renamed(weights, MONAI_PARTS)
    for blocks, norm in (("blocks", "norm"), ("decoder_blocks", "decoder_norm")):  # the norm is the last "block"
        theirs = renamed(theirs, [(rf"^{blocks}\.\d+\.(weight|bias)$", rf"{norm}.\1")])
    for key in [key for key in theirs if key.endswith("attn.qkv.weight")]:  # without qkv_bias it is 0
        theirs.setdefault(key.replace("weight", "bias"), torch.zeros_like(theirs[key][:, 0]))
    if "cls_token" not in theirs:
        logger.warning("there is no class token, which ours has: it starts at 0, and outputs will differ")
        theirs["cls_token"] = torch.zeros_like(theirs["pos_embed"][:, :1])
    logger.info("MONAI's layer norms have epsilon 1e-5, ours 1e-6: outputs differ slightly")
    is_mae = "decoder_pred.weight" in theirs
    ours = renamed(theirs, FACEBOOK_MAE) if is_mae else theirs
    return with_positions(ours, "encoder." if is_mae else "", grid)


def with_positions(weights: Weights, prefix: str, grid: Sequence[int] | None) -> Weights:
    """Position embeddings with a place for the class token in the encoder and none in the decoder, and the grid.

    Raises:
        InputError: no grid fits, or the decoder's class token has a position, which other projects keep at 0.
    """
    axes = weights[f"{prefix}patch_embed.proj.weight"].ndim - 2
    position = weights[f"{prefix}pos_embed"]
    found, has_token = find_grid(position.shape[1], axes, grid)
    done = weights | {f"{prefix}pos_embed": position if has_token else functional.pad(position, (0, 0, 1, 0))}
    if "decoder.pos_embed" in weights:
        rest, done["decoder.pos_embed"] = weights["decoder.pos_embed"].tensor_split([-prod(found)], dim=1)
        if rest.numel() and rest.any():
            raise InputError(
                "the decoder's class token has a position embedding, for which there is no place; set it to 0"
            )
    return done | {f"{prefix}grid_size": torch.tensor(found)}


def find_grid(tokens: int, axes: int, grid: Sequence[int] | None) -> tuple[list[int], bool]:
    """Patches per axis, and whether the class token is among `tokens`."""
    for patches, has_token in ((tokens, False), (tokens - 1, True)):
        side = round(patches ** (1 / axes))
        found = list(grid) if grid else [side] * axes
        if prod(found) == patches and len(found) == axes:
            if not grid:
                logger.info(f"patches in a grid of {' x '.join(map(str, found))}, assumed; --grid says otherwise")
            return found, has_token
    raise InputError(
        f"{tokens} position embeddings fit no {axes}-D grid {list(grid or [])}; give the grid, patches per axis"
    )


Reader = Callable[[Weights, Sequence[int] | None], Weights]
# Format -> the keys that tell it from those below, and what turns it into ours.
FORMATS: dict[str, tuple[tuple[str, ...], Reader]] = {
    "SelfMedMAE's MAE": (
        ("encoder_pos_embed", "encoder_to_decoder.weight", "encoder.patch_embed.proj.weight"),
        from_selfmedmae_mae,
    ),
    "SelfMedMAE's UNETR": (("encoder.pos_embed", "decoder.encoder1.layer.conv1.conv.weight"), from_selfmedmae_unetr),
    "custom MAE or UNETR": (("encoder.pos_embed", "encoder.grid_size"), from_custom),
    "custom ViT": (("pos_embed", "grid_size"), from_custom),
    "facebookresearch/mae": (("pos_embed", "patch_embed.proj.weight", "decoder_pred.weight"), from_facebook_mae),
    "ViT (timm, SelfMedMAE)": (("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight"), from_vit),
    "MONAI": (("patch_embedding.patch_embeddings.weight", "patch_embedding.position_embeddings"), from_monai),
}
