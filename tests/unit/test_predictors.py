"""The trivial predictors that a masked autoencoder has to beat."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from custom.losses import MaskedPatchLoss
from custom.networks.mae import Prediction
from custom.predictors import PositionMean, flat_patches, neighbour_mean


def naive_neighbour_mean(target: torch.Tensor, hidden: torch.Tensor, grid: list[int]) -> torch.Tensor:
    """From the definition, patch by patch."""
    places = list(product(*(range(n) for n in grid)))
    result = torch.empty(*hidden.shape, target.shape[2])
    for sample, row in enumerate(hidden.tolist()):
        visible = [index for index in range(len(places)) if index not in row]
        for rank, index in enumerate(row):
            near = [
                other
                for other in visible
                if max(abs(a - b) for a, b in zip(places[index], places[other], strict=True)) == 1
            ]
            result[sample, rank] = target[sample, near or visible].mean(dim=0)
    return result


@pytest.mark.parametrize("grid", [[4, 5], [3, 4, 2], [1, 6], [7]])
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_neighbour_mean_equals_a_loop_over_patches(grid: list[int], share: float) -> None:
    source = torch.Generator().manual_seed(0)
    count = int(torch.tensor(grid).prod())
    target = torch.randn(3, count, 5, generator=source)
    hidden = torch.rand(3, count, generator=source).argsort(dim=1)[:, : min(count - 1, round(share * count))]
    expected = naive_neighbour_mean(target, hidden, grid)
    assert torch.allclose(neighbour_mean(target, hidden, grid), expected, atol=1e-5)


@pytest.mark.parametrize("grid", [[5, 5], [5, 5, 5]])
def test_a_patch_without_visible_neighbours_gets_the_mean_of_all_visible_ones(grid: list[int]) -> None:
    count = 5 ** len(grid)
    target = torch.randn(1, count, 4)
    visible = [0, count - 1]
    hidden = torch.tensor([[index for index in range(count) if index not in visible]])
    middle = hidden[0].tolist().index(count // 2)
    assert torch.allclose(neighbour_mean(target, hidden, grid)[0, middle], target[0, visible].mean(dim=0))


def test_hidden_values_never_reach_a_prediction() -> None:
    target, hidden = torch.randn(1, 16, 4), torch.tensor([[5, 6, 9]])
    changed = target.clone()
    changed[:, hidden[0]] = 1e6
    assert torch.equal(neighbour_mean(target, hidden, [4, 4]), neighbour_mean(changed, hidden, [4, 4]))
    assert torch.equal(flat_patches(target, hidden), flat_patches(changed, hidden))


def test_without_any_visible_patch_the_prediction_is_zero() -> None:
    target, hidden = torch.randn(1, 4, 3), torch.arange(4).unsqueeze(0)
    assert torch.equal(neighbour_mean(target, hidden, [2, 2]), torch.zeros(1, 4, 3))
    assert torch.equal(flat_patches(target, hidden), torch.zeros(1, 4, 3))


def test_flat_patches_are_at_the_mean_of_all_that_is_visible_in_their_crop() -> None:
    target, hidden = torch.randn(2, 6, 3), torch.tensor([[0, 4], [5, 1]])
    visible = torch.stack([target[0, [1, 2, 3, 5]], target[1, [0, 2, 3, 4]]])
    expected = visible.mean(dim=(1, 2), keepdim=True).expand(2, 2, 3)
    assert torch.allclose(flat_patches(target, hidden), expected, atol=1e-6)


def test_flat_patches_of_a_padded_crop_are_at_the_mean_of_what_is_no_padding() -> None:
    valid = torch.ones(1, 1, 8, 4, dtype=torch.bool)
    valid[..., 2:5, :] = False  # half of the hidden patch and a row of the visible one
    image, hidden = valid * 0.5, torch.tensor([[0]])
    loss = MaskedPatchLoss([4, 4], norm_pix_loss=False)
    prediction = flat_patches(loss.target(image, valid), hidden, loss.weight(image, valid))
    assert torch.equal(prediction, torch.full((1, 1, 16), 0.5))


def test_flat_patches_of_a_normalised_target_score_its_variance() -> None:
    image, hidden = torch.rand(2, 2, 8, 6, 8), torch.tensor([[0, 5, 7], [1, 2, 3]])
    loss = MaskedPatchLoss([4, 3, 4])
    prediction = Prediction(flat_patches(loss.target(image), hidden), hidden)
    assert loss(prediction, {"image": image, "valid": None}).item() == pytest.approx(1.0, abs=1e-3)


def test_the_position_mean_is_the_mean_of_all_patches_seen_at_that_position() -> None:
    batches = [torch.randn(size, 6, 5) for size in (2, 3, 1)]
    predictor = PositionMean(torch.zeros(6, 5))
    hidden = torch.tensor([[4, 0], [1, 5]])
    assert torch.equal(predictor.predict(hidden), torch.zeros(2, 2, 5))
    for batch in batches:
        predictor.update(batch)
    mean = torch.cat(batches).mean(dim=0)
    assert torch.allclose(predictor.predict(hidden), torch.stack([mean[[4, 0]], mean[[1, 5]]]), atol=1e-6)
