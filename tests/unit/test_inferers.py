"""Networks applied in bfloat16 and to whole volumes."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import Tensor, nn

from custom.inferers import AutocastInferer, ReconstructionInferer, has_bfloat16
from custom.networks import MAE
from custom.networks.mae import Prediction

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


class Probe(nn.Module):
    """A pointwise convolution that notes the number type it computes in."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 2, 1)
        self.seen: set[torch.dtype] = set()

    def forward(self, image: Tensor) -> Tensor:
        result = self.layer(image)
        self.seen.add(result.dtype)
        return result


@pytest.mark.parametrize("inner", [SimpleInferer(), SlidingWindowInferer([8, 8], 2, 0.5)])
@pytest.mark.parametrize(
    ("amp", "hardware", "dtype"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_used_if_wanted_and_native_and_results_are_single_precision(
    device: str, amp: bool, hardware: bool, dtype: torch.dtype, inner: SimpleInferer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom.inferers.has_bfloat16", lambda _: hardware)
    network, image = Probe().to(device), torch.rand(2, 1, 16, 16, device=device)
    result = AutocastInferer(inner, amp)(image, network)
    assert network.seen == {dtype} and result.dtype == torch.float32
    assert torch.allclose(result, network.layer(image), atol=0.05 if dtype == torch.bfloat16 else 1e-5)


def test_results_that_are_not_tensors_pass_through() -> None:
    prediction = Prediction(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.int64))
    assert AutocastInferer(SimpleInferer())(torch.zeros(1, 1), lambda _: prediction) is prediction


@pytest.mark.parametrize("device", DEVICES)
def test_native_bfloat16_is_found_on_every_device_of_this_machine(device: str) -> None:
    assert has_bfloat16(device) is has_bfloat16(torch.device(device))
    assert isinstance(has_bfloat16(device), bool)


@pytest.fixture
def mae() -> MAE:
    torch.manual_seed(0)
    decoder = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
    return MAE(2, [16, 16, 8], [8, 4, 4], 24, 1, 2, **decoder, masking_ratio=0.75).eval()


@torch.no_grad()
def test_a_reconstructed_volume_keeps_what_was_visible_and_hides_the_ratio(mae: MAE) -> None:
    volume = torch.rand(1, 2, 32, 16, 24)
    result = ReconstructionInferer()(volume, mae)
    assert result.shape == (1, 3, 32, 16, 24)
    visible = result[:, 2:]
    assert set(visible.unique().tolist()) == {0.0, 1.0} and visible.mean().item() == 0.25
    shown = visible.expand_as(volume) == 1
    assert torch.equal(result[:, :2][shown], volume[shown])
    assert (result[:, :2][~shown] != volume[~shown]).float().mean() > 0.99
    corners = visible[0, 0, ::8, ::4, ::4]
    assert torch.equal(corners.repeat_interleave(8, 0).repeat_interleave(4, 1).repeat_interleave(4, 2), visible[0, 0])


@torch.no_grad()
def test_every_window_has_a_mask_of_its_own_that_the_seed_decides(mae: MAE) -> None:
    volume = torch.rand(1, 2, 32, 16, 8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, again, other = (ReconstructionInferer(seed)(volume, mae) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first[:, 2], other[:, 2])
    assert not torch.equal(first[:, 2, :16], first[:, 2, 16:])
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
