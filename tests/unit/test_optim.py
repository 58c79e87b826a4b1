"""Parameter groups and the schedule, as the paper's code has them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from custom.errors import InputError
from custom.networks import MAE, UNETR, ViTClassifier
from custom.optim import adamw, layer_id, parameter_groups, warmup_cosine

TOKENS = {"cls_token", "pos_embed"}


def group_of(network: nn.Module, groups: list[dict]) -> dict[str, dict]:
    """Parameter name -> its group; every trainable parameter is in exactly one."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert len(found) == len(trainable) and {name for name, _ in found} == trainable
    return dict(found)


def unetr() -> UNETR:
    return UNETR(1, 3, [16, 16], 8, 4, 24, 12, 2)


def classifier() -> ViTClassifier:
    return ViTClassifier(3, [16, 16], 8, 5, hidden_size=24, num_layers=12, num_heads=2, pos_embed="learnable")


def test_a_papers_size_autoencoder_has_the_published_split_and_keeps_its_tokens_decayed() -> None:
    mae = MAE(1, [16] * 3, 8, 24, 12, 2, decoder_hidden_size=24, decoder_num_layers=8, decoder_num_heads=2)
    groups = parameter_groups(mae, 1e-3, 0.05)
    assert sorted((len(group["params"]), group["weight_decay"]) for group in groups) == [(85, 0.05), (167, 0.0)]
    placed = group_of(mae, groups)
    for token in ("encoder.cls_token", "decoder.mask_token"):
        assert placed[token]["weight_decay"] == 0.05
    assert {group["lr"] for group in groups} == {1e-3}


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_weight_decay_spares_vectors_biases_and_position_and_class_tokens(prefix: str) -> None:
    network = unetr() if prefix else classifier()
    placed = group_of(network, parameter_groups(network, 1e-3, 0.05, 0.75))
    for name, parameter in network.named_parameters():
        spared = parameter.ndim == 1 or name.endswith(".bias") or name.removeprefix(prefix) in TOKENS
        assert placed[name]["weight_decay"] == (0.0 if spared else 0.05), name


@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_layer_decay_scales_each_depth_as_published(prefix: str) -> None:
    network = unetr() if prefix else classifier()
    placed = group_of(network, parameter_groups(network, 2.0, 0.05, 0.75))
    for name, group in placed.items():
        inner = name.removeprefix(prefix)
        if inner in TOKENS or inner.startswith("patch_embed."):
            scale = 0.75**13
        elif inner.startswith("blocks."):
            scale = 0.75 ** (12 - int(inner.split(".")[1]))
        else:
            assert inner.startswith(("norm.", "head.", "decoder."))
            scale = 1.0
        assert group["lr"] == pytest.approx(2.0 * scale), name
    scales = {name: placed[f"{prefix}{name}"]["lr"] / 2 for name in ("cls_token", "blocks.0.norm1.weight")}
    assert scales == pytest.approx({"cls_token": 0.023757, "blocks.0.norm1.weight": 0.031676}, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        ("mask_token", 0), ("encoder.pos_embed", 0), ("encoder.patch_embed.proj.weight", 0),
        ("blocks.0.mlp.fc1.bias", 1), ("encoder.blocks.11.attn.qkv.weight", 12), ("encoder.norm.weight", 13),
        ("head.weight", 13), ("decoder.up_blocks.0.transp_conv.conv.weight", 13),
    ],
)  # fmt: skip
def test_depth_follows_the_name(name: str, depth: int) -> None:
    assert layer_id(name, 12) == depth


def test_fixed_positions_are_left_out() -> None:
    mae = MAE(1, [16, 16], 8, 24, 2, 2, decoder_hidden_size=24, decoder_num_layers=1, decoder_num_heads=2)
    assert not {name for name in group_of(mae, parameter_groups(mae, 1e-3, 0.05)) if "pos_embed" in name}


def test_adamw_takes_the_papers_settings_and_one_rate_for_each_depth() -> None:
    network = unetr()
    optimizer = adamw(network, 1e-3, layer_decay=0.75)
    assert optimizer.defaults["betas"] == (0.9, 0.95) and optimizer.defaults["eps"] == 1e-8
    assert len({group["lr"] for group in optimizer.param_groups}) == 14
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.05}
    before = [parameter.clone() for parameter in network.parameters()]
    network(torch.rand(1, 1, 16, 16)).square().sum().backward()
    optimizer.step()
    assert all(not torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def rates(warmup: int, total: int) -> list[list[float]]:
    """Learning rate of both groups before each step, and after the last."""
    parameters = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 0.1)]
    optimizer = torch.optim.AdamW(parameters)
    schedule = warmup_cosine(optimizer, warmup, total)
    seen = []
    for _ in range(total + 1):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return seen


def test_the_rate_rises_linearly_from_zero_and_falls_along_a_half_cosine() -> None:
    seen = rates(10, 110)
    for step, (rate, other) in enumerate(seen):
        expected = step / 10 if step < 10 else 0.5 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert rate == pytest.approx(expected, abs=1e-12) and other == pytest.approx(0.1 * rate)
    assert seen[0] == [0.0, 0.0] and seen[10] == [1.0, 0.1]
    assert seen[60][0] == pytest.approx(0.5) and 0 < seen[109][0] < 1e-3 and seen[110][0] < 1e-12


def test_without_warm_up_the_first_step_has_the_full_rate() -> None:
    assert rates(0, 10)[0] == [1.0, 0.1]


def test_the_rate_stays_at_zero_after_the_end() -> None:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, 2, 4)
    for _ in range(9):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    with pytest.raises(InputError, match="warmup_epochs below max_epochs"):
        warmup_cosine(optimizer, warmup_steps=20, total_steps=20)
