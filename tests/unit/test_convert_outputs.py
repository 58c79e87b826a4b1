"""Weights of others give in our networks what they give in theirs, and what differs is said.

timm's ViT and facebookresearch/mae are run here as they are described, under their names, on random weights.
"""

import logging
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from monai.networks.nets import ViT as MonaiViT
from monai.networks.nets import ViTAutoEnc
from torch import Tensor
from torch.nn import functional

from custom.checkpoints import load_weights, read_weights
from custom.convert import to_custom
from custom.errors import InputError
from custom.networks import MAE, ViT, ViTClassifier
from custom.networks.tokens import patchify
from scripts.convert import convert

from .test_convert import DECODER, SMALL, load, perturbed, with_our_epsilon

HEADS = 2


def random_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {key: 0.2 * torch.randn(shape) for key, shape in shapes.items()}


def transformer_shapes(blocks: str, norm: str, depth: int, width: int) -> dict[str, tuple[int, ...]]:
    """Blocks and a final norm: an MLP four times as wide, queries, keys and values in one matrix."""
    parts = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    parts |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width), "norm1": (width,), "norm2": (width,)}
    layers = {f"{blocks}.{n}.{name}": shape for n in range(depth) for name, shape in parts.items()} | {norm: (width,)}
    weights = {f"{name}.weight": shape for name, shape in layers.items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def encoder_shapes(tokens: int, channels: int, patch: int, width: int) -> dict[str, tuple[int, ...]]:
    done = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + tokens, width), "patch_embed.proj.bias": (width,)}
    done["patch_embed.proj.weight"] = (width, channels, patch, patch)
    return done | transformer_shapes("blocks", "norm", 2, width)


def linear(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def normalise(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Layer norm with timm's and facebook's epsilon, 1e-6."""
    centred = x - x.mean(-1, keepdim=True)
    spread = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return centred / spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Head by head: softmax(q k' / sqrt(d)) v, the heads side by side within each of q, k and v."""
    queries, keys, values = linear(weights, f"{name}.qkv", x).chunk(3, dim=-1)
    size = x.shape[-1] // HEADS
    heads = []
    for head in range(HEADS):
        q, k, v = (part[..., head * size : (head + 1) * size] for part in (queries, keys, values))
        heads.append((q @ k.transpose(1, 2) / size**0.5).softmax(-1) @ v)
    return linear(weights, f"{name}.proj", torch.cat(heads, -1))


def run_transformer(weights: dict[str, Tensor], blocks: str, norm: str, x: Tensor) -> Tensor:
    """Pre-norm blocks, GELU by the error function, and the final norm."""
    for n in range(sum(key.startswith(f"{blocks}.") and key.endswith("norm1.bias") for key in weights)):
        x = x + attend(weights, f"{blocks}.{n}.attn", normalise(weights, f"{blocks}.{n}.norm1", x))
        inner = linear(weights, f"{blocks}.{n}.mlp.fc1", normalise(weights, f"{blocks}.{n}.norm2", x))
        x = x + linear(weights, f"{blocks}.{n}.mlp.fc2", inner * (1 + torch.erf(inner / 2**0.5)) / 2)
    return normalise(weights, norm, x)


def embedded(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """A strided convolution, row by row, plus the positions after the class token's."""
    patch = weights["patch_embed.proj.weight"].shape[-1]
    maps = functional.conv2d(image, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=patch)
    return maps.flatten(2).transpose(1, 2) + weights["pos_embed"][:, 1:]


def with_class(weights: dict[str, Tensor], tokens: Tensor) -> Tensor:
    first = weights["cls_token"] + weights["pos_embed"][:, :1]
    return torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)


def run_timm(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """timm's VisionTransformer: logits from the class token."""
    tokens = run_transformer(weights, "blocks", "norm", with_class(weights, embedded(weights, image)))
    return linear(weights, "head", tokens[:, 0])


def run_facebook(weights: dict[str, Tensor], image: Tensor, keep: Tensor) -> Tensor:
    """facebookresearch/mae: every patch (B, L, pixels * C) from those in keep (B, K), pixel by pixel, then channel."""
    rows = torch.arange(len(image))[:, None]
    seen = embedded(weights, image)[rows, keep]
    latent = run_transformer(weights, "blocks", "norm", with_class(weights, seen))
    tokens = linear(weights, "decoder_embed", latent)
    full = weights["mask_token"].repeat(len(image), weights["pos_embed"].shape[1] - 1, 1)
    full[rows, keep] = tokens[:, 1:]
    full = torch.cat([tokens[:, :1], full], 1) + weights["decoder_pos_embed"]
    return linear(weights, "decoder_pred", run_transformer(weights, "decoder_blocks", "decoder_norm", full))[:, 1:]


def test_timms_vit_gives_timms_logits(tmp_path: Path) -> None:
    shapes = encoder_shapes(4 * 3, 3, 8, 24) | {"head.weight": (5, 24), "head.bias": (5,)}
    theirs, image = random_weights(shapes), torch.randn(2, 3, 32, 24)
    ours = load(ViTClassifier(3, [32, 24], 8, 5, **SMALL, pos_embed="learnable"), to_custom(theirs, [4, 3]), tmp_path)
    assert torch.allclose(ours(image), run_timm(theirs, image), atol=1e-5)


def test_facebooks_autoencoder_gives_facebooks_picture(tmp_path: Path) -> None:
    shapes = encoder_shapes(16, 3, 8, 24) | transformer_shapes("decoder_blocks", "decoder_norm", 1, 16)
    shapes |= {"decoder_embed.weight": (16, 24), "decoder_embed.bias": (16,), "decoder_pos_embed": (1, 17, 16)}
    shapes |= {"decoder_pred.weight": (192, 16), "decoder_pred.bias": (192,), "mask_token": (1, 1, 16)}
    theirs, image = random_weights(shapes), torch.randn(2, 3, 32, 32)
    with pytest.raises(InputError, match="the decoder's class token has a position embedding"):
        to_custom(theirs)
    theirs["decoder_pos_embed"][:, 0] = 0  # sine and cosine, fixed, with zeros for the class token
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    keep, hidden = order[:, :5], order[:, 5:]
    sizes = SMALL | DECODER | {"decoder_hidden_size": 16}
    ours = load(MAE(3, [32, 32], 8, **sizes, norm_pix_loss=False), to_custom(theirs), tmp_path)
    found = ours.reconstruct(image, ours.predict(image, keep, hidden)).image
    patches = run_facebook(theirs, image, keep).reshape(2, 4, 4, 8, 8, 3)  # rows, columns, then inside a patch
    expected = patches.permute(0, 5, 1, 3, 2, 4).reshape(2, 3, 32, 32)
    unseen = torch.ones(2, 16).scatter(1, keep, 0.0).reshape(2, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert torch.allclose(found, torch.where(unseen > 0, expected, image), atol=1e-5)


def test_vitautoencs_tokens_are_ours_but_for_the_class_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It has none, so our blocks without ours give its numbers, and with ours they differ, which is said."""
    theirs = with_our_epsilon(perturbed(ViTAutoEnc(1, (32, 32), 16, **SMALL, mlp_dim=96, spatial_dims=2)))
    ours = load(ViT(1, [32, 32], 16, **SMALL), to_custom(theirs.state_dict()), tmp_path)
    assert "no class token" in caplog.text
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        picture, expected = theirs(image)
        tokens, found = ours.transform(ours.patch_embed(patchify(image, [16, 16])) + ours.pos_embed[:, 1:])
        drawn = theirs.conv3d_transpose_1(theirs.conv3d_transpose(tokens.transpose(1, 2).unflatten(2, (2, 2))))
        complete = ours(image)[1]
    assert len(found) == len(expected) == 2 and torch.allclose(drawn, picture, atol=1e-5)
    assert all(torch.allclose(mine, other, atol=1e-5) for mine, other in zip(found, expected, strict=True))
    assert not torch.allclose(complete[-1][:, 1:], expected[-1], atol=1e-3)


def test_the_tanh_after_monais_default_head_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = SMALL | {"mlp_dim": 96, "num_classes": 3, "spatial_dims": 2}
    theirs = with_our_epsilon(perturbed(MonaiViT(1, (16, 16), 8, classification=True, **sizes)))
    ours = ViTClassifier(1, [16, 16], 8, 3, **SMALL, pos_embed="learnable")
    ours = load(ours, to_custom(theirs.state_dict()), tmp_path)
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected, found = theirs(image)[0], ours(image)
    assert torch.allclose(found.tanh(), expected, atol=1e-5) and torch.allclose(found, expected.atanh(), atol=1e-5)
    assert not torch.allclose(found, expected, atol=1e-2)
    assert "apply tanh to our network's outputs to get theirs" in caplog.text
    caplog.clear()
    plain = MonaiViT(1, (16, 16), 8, classification=True, post_activation="", **sizes)
    to_custom(plain.state_dict())
    assert "tanh" not in caplog.text


def test_a_grid_is_assumed_aloud_and_never_against_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    ours = ViTClassifier(1, [16, 64], 8, 3, **SMALL).state_dict()
    theirs = {key: value for key, value in ours.items() if key != "grid_size"}
    with caplog.at_level(logging.INFO, logger="custom.convert"):
        assert to_custom(theirs)["grid_size"].tolist() == [4, 4]
        assert "patches in a grid of 4 x 4, assumed; --grid says otherwise" in caplog.messages
        caplog.clear()
        assert to_custom(theirs, [2, 8])["grid_size"].tolist() == [2, 8]
        assert to_custom(ours)["grid_size"].tolist() == to_custom(ours, (2, 8))["grid_size"].tolist() == [2, 8]
        assert "assumed" not in caplog.text
    for weights in (ours, {f"encoder.{key}": value for key, value in ours.items()}):
        with pytest.raises(InputError, match=r"carry their grid, \[2, 8\], which is not the \[4, 4\] given"):
            to_custom(weights, [4, 4])


def test_a_saved_command_line_is_read_and_other_objects_are_not(tmp_path: Path) -> None:
    network = perturbed(ViTClassifier(1, [16, 16], 8, 3, **SMALL))
    theirs = {key: value for key, value in network.state_dict().items() if key != "grid_size"}
    saved = {"model": theirs, "epoch": 3, "args": Namespace(lr=1e-3, betas=(0.9, 0.95), device="cuda")}
    torch.save(saved, tmp_path / "theirs.pth")
    convert(str(tmp_path / "theirs.pth"), str(tmp_path / "ours.pt"))
    restored = load_weights(ViTClassifier(1, [16, 16], 8, 3, **SMALL), tmp_path / "ours.pt").state_dict()
    assert all(torch.equal(restored[key], value) for key, value in network.state_dict().items())
    with pytest.raises(InputError, match="no checkpoint of plain tensors"):
        read_weights(tmp_path / "theirs.pth")  # our own files hold no objects
    torch.save(saved | {"args": Namespace(lr=Fraction(1, 1000))}, tmp_path / "strange.pth")
    with pytest.raises(InputError, match="no checkpoint of plain tensors"):
        convert(str(tmp_path / "strange.pth"), str(tmp_path / "no.pt"))
    assert not (tmp_path / "no.pt").exists()
