"""The pre-training loss: hidden patches only, without padding."""

from __future__ import annotations

import pytest
import torch

from custom.losses import MaskedPatchLoss, over_processes
from custom.networks.mae import Prediction
from custom.networks.tokens import gather_tokens, patchify, unpatchify

PATCH, GRID = [4, 2, 4], [2, 3, 2]
COUNT, VECTOR = 12, 2 * 32  # two channels


@pytest.fixture
def case() -> tuple[Prediction, dict[str, torch.Tensor]]:
    """A random prediction of 5 of 12 patches, and a target padded along the last axis."""
    source = torch.Generator().manual_seed(0)
    image = torch.rand(2, 2, 8, 6, 8, generator=source)
    hidden = torch.rand(2, COUNT, generator=source).argsort(dim=1)[:, :5]
    values = torch.randn(2, 5, VECTOR, generator=source).requires_grad_()
    valid = torch.ones(2, 1, 8, 6, 8, dtype=torch.bool)
    valid[..., 5:] = False
    return Prediction(values, hidden), {"image": image, "valid": valid}


def naive_loss(prediction: Prediction, target: dict[str, torch.Tensor], norm_pix_loss: bool) -> float:
    """Patch by patch and voxel by voxel, from the definition."""
    total, voxels = 0.0, 0
    valid = target["valid"].expand_as(target["image"])
    for sample in range(2):
        for place, index in enumerate(prediction.hidden[sample].tolist()):
            corner = [i * p for i, p in zip((*divmod(index // 2, 3), index % 2), PATCH, strict=True)]
            where = (sample, slice(None), *(slice(c, c + p) for c, p in zip(corner, PATCH, strict=True)))
            block, counts = target["image"][where], valid[where]
            if norm_pix_loss and counts.any():
                seen = block[counts]
                block = (block - seen.mean()) / (((seen - seen.mean()) ** 2).mean() + 1e-6).sqrt()
            error = prediction.values[sample, place] - block.permute(1, 2, 3, 0).flatten()
            total += error[counts.permute(1, 2, 3, 0).flatten()].square().sum().item()
            voxels += int(counts.sum())
    return total / voxels


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_loss_equals_a_loop_over_hidden_patches(
    case: tuple[Prediction, dict[str, torch.Tensor]], norm_pix_loss: bool
) -> None:
    loss = MaskedPatchLoss(PATCH, norm_pix_loss)(*case)
    assert loss.ndim == 0 and loss.item() == pytest.approx(naive_loss(*case, norm_pix_loss), rel=1e-5)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_loss_ignores_visible_patches(
    case: tuple[Prediction, dict[str, torch.Tensor]], norm_pix_loss: bool
) -> None:
    prediction, target = case
    loss = MaskedPatchLoss(PATCH, norm_pix_loss)
    patches = patchify(target["image"], PATCH)
    index = prediction.hidden.unsqueeze(-1).expand(-1, -1, VECTOR)
    noise = torch.rand(patches.shape).scatter(1, index, gather_tokens(patches, prediction.hidden))
    changed = {**target, "image": unpatchify(noise, GRID, PATCH)}
    assert not torch.equal(changed["image"], target["image"])
    assert loss(prediction, changed).item() == loss(prediction, target).item()
    noise.scatter_(1, index[:, :1], 9.0)
    changed = {**target, "image": unpatchify(noise, GRID, PATCH)}
    assert loss(prediction, changed).item() != loss(prediction, target).item()


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_nothing_written_in_the_padding_changes_the_loss(
    case: tuple[Prediction, dict[str, torch.Tensor]], norm_pix_loss: bool
) -> None:
    """Neither as an error nor through the mean and variance of a patch that is padded in part."""
    prediction, target = case
    loss = MaskedPatchLoss(PATCH, norm_pix_loss)
    padding = ~target["valid"].expand_as(target["image"])
    changed = {**target, "image": target["image"].masked_fill(padding, 1e4)}
    assert loss(prediction, changed).item() == loss(prediction, target).item()


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_padding_gives_no_gradient_and_every_other_hidden_voxel_does(
    case: tuple[Prediction, dict[str, torch.Tensor]], norm_pix_loss: bool
) -> None:
    prediction, target = case
    MaskedPatchLoss(PATCH, norm_pix_loss)(prediction, target).backward()
    counts = gather_tokens(patchify(target["valid"].expand_as(target["image"]).float(), PATCH), prediction.hidden)
    assert 0 < counts.mean() < 1
    assert torch.equal(prediction.values.grad != 0, counts == 1)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_short_way_without_padding_equals_the_weighted_one(
    case: tuple[Prediction, dict[str, torch.Tensor]], norm_pix_loss: bool
) -> None:
    """To 1e-6 relative. One padded voxel in a visible patch takes the weighted way and weighs nothing."""
    prediction, target = case
    visible = min(set(range(COUNT)) - set(prediction.hidden[0].tolist()))
    corner = [i * p for i, p in zip((*divmod(visible // 2, 3), visible % 2), PATCH, strict=True)]
    whole = torch.ones_like(target["valid"])
    padded = whole.clone()
    padded[0, 0, corner[0], corner[1], corner[2]] = False
    results = []
    for valid in (whole, padded, None):
        values = prediction.values.detach().clone().requires_grad_()
        loss = MaskedPatchLoss(PATCH, norm_pix_loss)(Prediction(values, prediction.hidden), {**target, "valid": valid})
        loss.backward()
        results.append((loss.item(), values.grad))
    for loss, gradient in results[1:]:
        assert loss == pytest.approx(results[0][0], rel=1e-6)
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-5, atol=1e-8)


def test_a_batch_of_padding_alone_has_a_loss_of_zero(case: tuple[Prediction, dict[str, torch.Tensor]]) -> None:
    prediction, target = case
    loss = MaskedPatchLoss(PATCH)(prediction, {**target, "valid": torch.zeros_like(target["valid"])})
    loss.backward()
    assert loss.item() == 0 and prediction.values.grad.abs().max() == 0


def test_targets_have_zero_mean_and_unit_biased_variance_over_all_channels() -> None:
    target = MaskedPatchLoss(PATCH).target(torch.rand(2, 2, 8, 6, 8) + torch.tensor([0.0, 3.0]).view(1, 2, 1, 1, 1))
    assert target.shape == (2, COUNT, VECTOR)
    assert torch.allclose(target.mean(2), torch.zeros(2, COUNT), atol=1e-4)
    assert torch.allclose(target.var(2, unbiased=False), torch.ones(2, COUNT), atol=1e-4)
    assert not torch.allclose(target.var(2, unbiased=True), torch.ones(2, COUNT), atol=1e-3)


def test_a_constant_patch_has_a_target_of_zero() -> None:
    target = MaskedPatchLoss(PATCH).target(torch.zeros(1, 2, 8, 6, 8))
    assert torch.equal(target, torch.zeros(1, COUNT, VECTOR))


def test_the_loss_is_single_precision_for_half_precision_predictions(
    case: tuple[Prediction, dict[str, torch.Tensor]],
) -> None:
    prediction, target = case
    half = prediction._replace(values=prediction.values.bfloat16())
    loss = MaskedPatchLoss(PATCH)(half, {**target, "image": target["image"].half()})
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(MaskedPatchLoss(PATCH)(prediction, target).item(), rel=0.01)


def test_the_mean_over_processes_is_the_mean_over_all_their_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where one of them has nothing but padding."""
    counts, means = [30.0, 0.0, 10.0], [1.0, 0.0, 5.0]
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: len(counts))
    monkeypatch.setattr("torch.distributed.all_reduce", lambda total: total.fill_(sum(counts)))
    losses = [over_processes(torch.tensor(m), torch.tensor(n)).item() for m, n in zip(means, counts, strict=True)]
    assert sum(losses) / 3 == pytest.approx((30 * 1.0 + 10 * 5.0) / 40)
    with torch.no_grad():  # an evaluation, which not all processes may run
        assert over_processes(torch.tensor(2.0), 10.0).item() == 2.0
