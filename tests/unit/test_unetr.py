"""UNETR at every patch size and depth it promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from custom.errors import InputError
from custom.networks import UNETR
from custom.networks.unetr import choose_skips


def tiny(img_size: list[int], patch_size: int | list[int] = 8, num_layers: int = 4, **more: Any) -> UNETR:
    torch.manual_seed(0)
    return UNETR(1, 3, img_size, patch_size, 4, 24, num_layers, 2, **more)


@pytest.mark.parametrize(
    ("size", "patch"),
    [([8, 8, 8], 4), ([16, 8, 8], 8), ([32, 16, 16], 16), ([16, 32], 16), ([16, 8], [4, 4]), ([64, 32], 32)],
)
def test_logits_have_the_size_of_the_image_at_every_patch_size(size: list[int], patch: int | list[int]) -> None:
    logits = tiny(size, patch, 5)(torch.rand(2, 1, *size))
    assert logits.shape == (2, 3, *size) and logits.isfinite().all()


@pytest.mark.parametrize("patch", [4, 8, 16])
@pytest.mark.parametrize("num_layers", range(4, 13))
def test_any_depth_has_ascending_skips_inside_it(num_layers: int, patch: int) -> None:
    network = tiny([16, 16], patch, num_layers)
    skips = network.skip_layers
    assert len(skips) == {4: 1, 8: 2, 16: 3}[patch]
    assert skips == sorted(set(skips)) and skips[0] > 0 and skips[-1] < num_layers
    assert network(torch.rand(1, 1, 16, 16)).shape == (1, 3, 16, 16)


def test_the_papers_depth_and_patch_have_the_papers_skips() -> None:
    assert choose_skips(12, 3, None) == [3, 6, 9]
    assert tiny([16, 16], 16, 12).skip_layers == [3, 6, 9]


def test_chosen_skip_layers_are_the_ones_that_count() -> None:
    image = torch.rand(1, 1, 16, 16)
    network = tiny([16, 16], 8, 4, skip_layers=(0, 1)).eval()
    other = tiny([16, 16], 8, 4, skip_layers=[0, 3]).eval()
    other.load_state_dict(network.state_dict())
    assert network.skip_layers == [0, 1] and other.skip_layers == [0, 3]
    assert not torch.allclose(network(image), other(image))


@pytest.mark.parametrize("skips", [[1], [1, 2, 3], [2, 1], [0, 4], [-1, 2]])
def test_skip_layers_that_do_not_fit_are_refused(skips: list[int]) -> None:
    with pytest.raises(InputError, match="must be 2 ascending block numbers below 4"):
        tiny([16, 16], 8, 4, skip_layers=skips)


@pytest.mark.parametrize(("size", "patch"), [([24, 24], 12), ([16, 16], [8, 4]), ([8, 8, 8], 2), ([16, 16, 16], 1)])
def test_a_patch_that_stages_cannot_reach_is_refused(size: list[int], patch: int | list[int]) -> None:
    with pytest.raises(InputError, match=r"patch_size .* must be 4, 8, 16 or 32"):
        tiny(size, patch)


def test_the_class_token_stays_inside_but_matters_to_the_logits() -> None:
    network = tiny([16, 16]).eval()
    image = torch.rand(1, 1, 16, 16)
    before = network(image)
    with torch.no_grad():
        network.encoder.cls_token += 5.0 * torch.randn(24)
    assert not torch.allclose(network(image), before)


@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_every_parameter_receives_a_gradient(use_checkpoint: bool) -> None:
    network = tiny([32, 32, 32], 16, use_checkpoint=use_checkpoint)
    network(torch.rand(1, 1, 32, 32, 32)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_drop_path_grows_linearly_and_evaluation_is_deterministic() -> None:
    network = tiny([16, 16], drop_path_rate=0.3)
    assert [block.drop_path.drop_prob for block in network.encoder.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    image = torch.rand(8, 1, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
def test_autocast_trains_with_finite_numbers(device: str, dtype: torch.dtype) -> None:
    network = tiny([16, 16, 16]).to(device)
    image = torch.rand(1, 1, 16, 16, 16, device=device)
    with torch.autocast(device, dtype=dtype):
        logits = network(image)
    assert logits.dtype == dtype
    assert torch.allclose(logits.float(), network(image), atol=0.1)
    logits.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(("size", "patch"), [([32, 32, 32], 16), ([16, 16, 16], 8), ([16, 16], 4)])
def test_a_scripted_network_equals_the_eager_one(size: list[int], patch: int) -> None:
    network = tiny(size, patch, use_checkpoint=True, drop_path_rate=0.1).eval()
    image = torch.rand(1, 1, *size)
    with torch.no_grad():
        assert torch.allclose(torch.jit.script(network)(image), network(image), atol=1e-5)


@pytest.mark.parametrize(("classes", "channels", "size", "count"), [(14, 1, 96, 92_813_230), (3, 4, 128, 102_478_899)])
def test_the_papers_network_has_the_published_number_of_parameters(
    classes: int, channels: int, size: int, count: int
) -> None:
    network = UNETR(channels, classes, [size] * 3)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
