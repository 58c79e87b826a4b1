"""A convolution of kernel 1 as a product of matrices is still that convolution."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from custom.networks import UNETR
from custom.networks.pointwise import Pointwise, is_pointwise, make_pointwise


def values_and_gradients(module: nn.Module, image: Tensor) -> list[Tensor]:
    image = image.clone().requires_grad_()
    output = module(image)
    output.square().sum().backward()
    return [output, image.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.Conv3d])
def test_values_and_gradients_equal_those_of_the_convolution(kind: type[nn.Module], bias: bool) -> None:
    """To 1e-4, for one image and for several."""
    torch.manual_seed(0)
    convolution = kind(6, 4, 1, bias=bias)
    image = torch.randn(3, 6, 5, 8, 7) if kind is nn.Conv3d else torch.randn(3, 6, 5, 8)
    for batch in (image, image[:1]):
        product = Pointwise(copy.deepcopy(convolution))
        expected = values_and_gradients(copy.deepcopy(convolution), batch)
        for ours, theirs in zip(values_and_gradients(product, batch), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_product_keeps_the_names_and_the_very_parameters() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv3d(2, 3, 1)), nn.Conv3d(3, 2, 3, padding=1))
    before = dict(network.named_parameters())
    make_pointwise(network)
    assert isinstance(network[0][0], Pointwise) and isinstance(network[1], nn.Conv3d)
    after = dict(network.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)


@pytest.mark.parametrize(
    "convolution",
    [nn.Conv3d(2, 2, 3), nn.Conv3d(2, 2, 1, stride=2), nn.Conv2d(2, 2, 1, padding=1), nn.Conv2d(2, 2, 1, groups=2)],
)
def test_other_convolutions_are_left_alone(convolution: nn.Module) -> None:
    assert not is_pointwise(convolution)


def test_unetr_computes_what_it_would_with_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 of scores of about 1, with the same weights under the same names."""
    options = {"patch_size": 8, "feature_size": 4, "hidden_size": 24, "num_layers": 4, "num_heads": 2}
    network = UNETR(1, 3, [16, 16, 16], **options).eval()
    monkeypatch.setattr("custom.networks.unetr.make_pointwise", lambda module: None)
    plain = UNETR(1, 3, [16, 16, 16], **options).eval()
    assert any(is_pointwise(module) for module in plain.decoder.modules())
    plain.load_state_dict(network.state_dict())
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain(image), rtol=1e-4, atol=1e-5)
