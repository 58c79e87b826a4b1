"""Our weights as those of stock MONAI networks and of the published code, so that nobody is locked in."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from .convert import UNETR_BLOCKS, Weights, renamed
from .errors import InputError

PARTS_OF_MONAI = (
    (r"\.attn\.proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc(\d)\.", r".mlp.linear\1."),
    (r"^(encoder\.)?patch_embed\.proj\.", "patch_embedding.patch_embeddings."),
    (r"^(encoder\.)?pos_embed$", "patch_embedding.position_embeddings"),
    (r"^head\.", "classification_head."),
    (r"^decoder\.mask_token$", "mask_tokens"),
    (r"^decoder\.pos_embed$", "decoder_pos_embedding"),
    (r"^decoder\.embed\.", "decoder_embed."),
    (r"^decoder\.head\.", "decoder_pred."),
)
PLACES_IN_MONAI = ((r"^encoder\.", ""), (r"^decoder\.blocks\.", "decoder_blocks."))


def is_mae(weights: Weights) -> bool:
    """Whether these are of our MAE."""
    return "decoder.mask_token" in weights


def is_unetr(weights: Weights) -> bool:
    """Whether these are of our UNETR."""
    return "decoder.out.conv.conv.weight" in weights


def to_monai(weights: Weights) -> Weights:
    """Our MAE for MaskedAutoEncoderViT, our ViTClassifier for ViT(classification=True, post_activation="").

    Build MONAI's network with qkv_bias=True and mlp_dim (and decoder_mlp_dim) 4 times the width, and set eps to 1e-6
    on its layer norms: outputs are then equal; with MONAI's 1e-5 they differ by up to about 1e-3. The class token's
    position embedding, which MONAI lacks, is added to the token.

    Raises:
        InputError: a UNETR, or an encoder alone, whose class token MONAI's networks have no place for.
    """
    if is_unetr(weights):
        raise InputError(
            "MONAI's UNETR has no class token, so it cannot hold this UNETR (logits would differ by 5 % or more); keep "
            "the custom network, or convert the masked autoencoder or the classifier"
        )
    if not is_mae(weights) and "head.weight" not in weights:
        raise InputError(
            "MONAI's ViT has a class token only with a head, so it cannot hold this encoder alone; "
            "convert the masked autoencoder or the classifier instead"
        )
    ours = without_class_position(weights)
    theirs = renamed(renamed(ours, PARTS_OF_MONAI), PLACES_IN_MONAI)
    if is_mae(weights):
        depths = [count_blocks(theirs, prefix) for prefix in ("blocks", "decoder_blocks")]
        norms = [(r"^norm\.", f"blocks.{depths[0]}."), (r"^decoder\.norm\.", f"decoder_blocks.{depths[1]}.")]
        theirs = renamed(theirs, norms)
    return theirs | unused_norms(theirs)


def to_selfmedmae(weights: Weights) -> Weights:
    """Our MAE, UNETR or ViTClassifier under the names of the published code.

    Raises:
        InputError: a 2-D MAE, because the published one predicts Fourier features and lays patches out otherwise; a
            UNETR of another patch size than the published 16; an encoder without the decoder it was trained with.
    """
    kept = {key: value for key, value in weights.items() if not key.endswith("grid_size")}
    if is_unetr(weights):
        refuse_other_patches(weights)
        return renamed(kept, [(rf"^decoder\.{ours}\.", f"decoder.{theirs}.") for theirs, ours in UNETR_BLOCKS.items()])
    if not is_mae(weights):
        if "encoder.pos_embed" in weights:
            raise InputError("the published code has no encoder without its decoder; convert the whole checkpoint")
        return kept
    if weights["encoder.patch_embed.proj.weight"].ndim == 4:
        raise InputError(
            "the published 2-D masked autoencoder predicts Fourier features, which this one does not; convert to monai"
        )
    rules = [
        (r"^decoder\.embed\.", "encoder_to_decoder."),
        (r"^(en|de)coder\.pos_embed$", r"\1coder_pos_embed"),
        (r"^decoder\.mask_token$", "mask_token"),
    ]
    return renamed(without_class_position(weights), rules)


def refuse_other_patches(unetr: Weights) -> None:
    """InputError unless there are the four stages of patch size 16, the only ones that the published UNETR has."""
    patch = list(unetr["encoder.patch_embed.proj.weight"].shape[2:])
    if set(patch) != {16}:
        raise InputError(
            f"the published UNETR has the stages of patch size 16 alone, so it cannot hold this one of {patch}; "
            "keep the custom network"
        )


def without_class_position(weights: Weights) -> Weights:
    """The class token with its position embedding added, position embeddings of patches alone, no grid."""
    prefix = "encoder." if "encoder.pos_embed" in weights else ""
    position = weights[f"{prefix}pos_embed"]
    folded = {f"{prefix}cls_token": weights[f"{prefix}cls_token"] + position[:, :1]}
    folded[f"{prefix}pos_embed"] = position[:, 1:]
    return {key: value for key, value in (weights | folded).items() if not key.endswith("grid_size")}


def count_blocks(weights: Weights, prefix: str) -> int:
    """How many transformer blocks there are."""
    return len([key for key in weights if re.fullmatch(rf"{prefix}\.\d+\.norm1\.weight", key)])


def unused_norms(weights: Weights) -> dict[str, Tensor]:
    """The cross attention norms that MONAI's blocks have and do not use."""
    norms = {key: value for key, value in weights.items() if ".norm1." in key}
    return {
        key.replace("norm1", "norm_cross_attn"): torch.full_like(value, float(key.endswith("weight")))
        for key, value in norms.items()
    }
