"""The Vision Transformer: attention backends, initialisation, drop path, and that it can be scripted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from custom.errors import InputError
from custom.networks import ViT, ViTClassifier
from custom.networks.vit import Attention, Block, Transformer

SHAPES = [
    ([16, 16], 8, 1), ([16, 24], [8, 4], 3), ([16, 16, 16], 8, 1), ([16, 8, 24], [8, 4, 6], 2),
]  # fmt: skip


def tiny(img_size: list[int], patch_size: int | list[int], channels: int = 1, **more: Any) -> ViT:
    torch.manual_seed(0)
    return ViT(channels, img_size, patch_size, **{"hidden_size": 24, "num_layers": 3, "num_heads": 2} | more)


def classifier(num_layers: int = 3, **more: Any) -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(
        3, [16, 16], 8, 5, hidden_size=24, num_layers=num_layers, num_heads=2, pos_embed="learnable", **more
    )


@pytest.mark.parametrize(("size", "patch", "channels"), SHAPES)
def test_any_grid_and_patch_gives_a_class_token_and_one_token_a_patch(
    size: list[int], patch: int | list[int], channels: int
) -> None:
    vit = tiny(size, patch, channels)
    tokens, hidden = vit(torch.rand(2, channels, *size))
    count = 1 + int(vit.grid_size.prod())
    assert tokens.shape == (2, count, 24) and len(hidden) == 3
    assert torch.equal(vit.norm(hidden[-1]), tokens)


def test_the_two_attention_backends_agree_in_outputs_and_gradients() -> None:
    torch.manual_seed(0)
    fused, explicit = Attention(24, 3), Attention(24, 3, "explicit")
    explicit.load_state_dict(fused.state_dict())
    x = torch.randn(2, 17, 24)
    out = fused(x), explicit(x)
    assert torch.allclose(*out, atol=1e-5)
    for value in out:
        value.square().sum().backward()
    assert torch.allclose(fused.qkv.weight.grad, explicit.qkv.weight.grad, atol=1e-4)


def test_attention_mixes_tokens_and_attention_to_equal_tokens_is_their_value() -> None:
    torch.manual_seed(0)
    attention = Attention(24, 3)
    x = torch.randn(1, 5, 24)
    moved = x.clone()
    moved[0, 4] += 1
    assert not torch.allclose(attention(x)[0, 0], attention(moved)[0, 0])
    same = x[:, :1].expand(-1, 5, -1)
    value = nn.functional.linear(same, attention.qkv.weight[48:], attention.qkv.bias[48:])
    assert torch.allclose(attention(same), attention.proj(value), atol=1e-6)


def test_layer_norms_use_the_published_epsilon() -> None:
    norms = [module for module in tiny([16, 16], 8).modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 7 and {norm.eps for norm in norms} == {1e-6}


def test_drop_path_grows_linearly_and_is_off_in_evaluation() -> None:
    vit = tiny([16, 16], 8, num_layers=5, drop_path_rate=0.2)
    assert [block.drop_path.drop_prob for block in vit.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    image = torch.rand(8, 1, 16, 16)
    assert not torch.equal(vit(image)[0], vit(image)[0])
    vit.eval()
    assert torch.equal(vit(image)[0], vit(image)[0])


def test_drop_path_drops_whole_samples_and_rescales_the_rest() -> None:
    torch.manual_seed(0)
    block = Block(24, 2, 48, 0.5, "sdpa")
    block.mlp.fc2.requires_grad_(False).weight.zero_()
    block.mlp.fc2.bias.zero_()  # leaves the attention branch alone
    x = torch.randn(64, 4, 24)
    branch, done = block.attn(block.norm1(x)), block(x) - x
    kept = done.abs().amax(dim=(1, 2)) > 0
    assert 16 < kept.sum() < 48
    assert torch.allclose(done[kept], 2 * branch[kept], atol=1e-5)


def test_gradient_checkpointing_changes_no_gradient() -> None:
    image = torch.rand(2, 1, 16, 16)
    gradients = []
    for use_checkpoint in (False, True):
        vit = tiny([16, 16], 8, use_checkpoint=use_checkpoint, drop_path_rate=0.3, pos_embed="learnable")
        torch.manual_seed(1)
        vit(image)[0].square().sum().backward()
        gradients.append([parameter.grad for parameter in vit.parameters()])
    assert all(torch.allclose(*pair, atol=1e-6) for pair in zip(*gradients, strict=True))
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[1])


def test_linear_layers_start_xavier_uniform_with_zero_biases() -> None:
    torch.manual_seed(0)
    stack = Transformer(48, 2, 4)
    linears = [module for module in stack.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 8
    for layer in linears:
        bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
        assert layer.bias.abs().max() == 0
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_a_pretraining_encoder_starts_as_published() -> None:
    vit = tiny([16, 16, 16], 8, 2, hidden_size=192, num_layers=1)
    projection = vit.patch_embed.proj
    fan_in = 2 * 8**3
    bound = (6 / (fan_in + 192)) ** 0.5
    assert 0.99 * bound < projection.weight.abs().max() <= bound
    assert 0 < projection.bias.abs().max() <= fan_in**-0.5
    assert vit.cls_token.std().item() == pytest.approx(0.02, rel=0.2)
    assert vit.cls_token.abs().max() > 0.03, "a normal, not a cut one"
    assert not vit.pos_embed.requires_grad and vit.pos_embed[:, 0].abs().max() == 0


def test_a_fine_tuning_encoder_starts_as_published() -> None:
    vit = tiny([16, 16, 16], 4, hidden_size=192, num_layers=1, pos_embed="learnable")
    for token in (vit.cls_token, vit.pos_embed):
        assert token.requires_grad and token.abs().max() <= 0.02
    assert vit.pos_embed.std().item() == pytest.approx(0.0108, rel=0.03)  # a normal cut at one sigma
    assert vit.patch_embed.proj.weight.abs().max() <= 4**-1.5  # torch's default for convolutions


def test_the_head_of_a_classifier_sees_the_class_token_only() -> None:
    network = classifier().eval()
    image = torch.rand(2, 3, 16, 16)
    tokens = super(ViTClassifier, network).forward(image)[0]
    assert torch.equal(network(image), network.head(tokens[:, 0]))
    assert network.head.bias.abs().max() == 0
    assert network.head.weight.abs().max() <= (6 / (24 + 5)) ** 0.5


def test_every_parameter_of_a_classifier_receives_a_gradient() -> None:
    network = classifier()
    network(torch.rand(2, 3, 16, 16)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_a_scripted_classifier_equals_the_eager_one() -> None:
    network = classifier(use_checkpoint=True, drop_path_rate=0.2).eval()
    image = torch.rand(2, 3, 16, 16)
    assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-6)


def test_the_papers_classifier_has_the_published_number_of_parameters() -> None:
    network = ViTClassifier(3, [224, 224], 16, 14, pos_embed="learnable")
    assert sum(parameter.numel() for parameter in network.parameters()) == 85_809_422


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_heads": 5}, "hidden_size 24 is not a multiple of num_heads 5"),
        ({"attention": "flash"}, "'flash' is unknown; use 'sdpa' or 'explicit'"),
        ({"pos_embed": "rope"}, "'rope' is unknown; use 'sincos' or 'learnable'"),
        ({"patch_size": 6}, "img_size 16 is not a multiple of patch_size 6 along axis 0; use 18"),
        ({"patch_size": [8, 8, 8]}, "patch_size"),
        ({"hidden_size": 26}, "use 28"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named_with_what_does(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tiny(**{"img_size": [16, 16], "patch_size": 8} | change)
