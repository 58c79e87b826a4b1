"""Which patches are hidden: how many, how evenly, and reproducibly."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare

from custom.errors import InputError
from custom.networks.masking import draw_ratio, foreground_weight, random_masking, ratio_range


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("tokens", "ratio", "masked"),
    [
        (216, 0.125, 27), (216, 0.5, 108), (216, 0.75, 162), (216, 0.875, 189),
        (512, 0.125, 64), (512, 0.5, 256), (512, 0.75, 384), (512, 0.875, 448),
        (196, 0.125, 25), (196, 0.5, 98), (196, 0.75, 147), (196, 0.875, 172),
        (8, 0.01, 1), (8, 0.99, 7),
    ],
)  # fmt: skip
def test_exactly_the_ratio_is_hidden_and_keep_and_hidden_partition_the_patches(
    tokens: int, ratio: float, masked: int
) -> None:
    keep, hidden = random_masking(torch.ones(3, tokens), ratio, generator())
    assert keep.shape == (3, tokens - masked) and hidden.shape == (3, masked)
    everything = torch.cat([keep, hidden], dim=1).sort(dim=1).values
    assert torch.equal(everything, torch.arange(tokens).expand(3, -1))


def test_samples_of_a_batch_are_masked_independently() -> None:
    hidden = random_masking(torch.ones(2000, 16), 0.5, generator())[1]
    masks = torch.zeros(2000, 16).scatter(1, hidden, 1.0)
    together = (masks[::2] * masks[1::2]).mean(dim=0)  # both of a pair hide the patch: 1/4 if independent
    assert torch.all((together - 0.25).abs() < 0.06)
    assert len({tuple(row.tolist()) for row in masks}) > 1500


def test_the_same_generator_state_draws_the_same_mask_and_another_seed_another() -> None:
    weight = torch.rand(2, 64, generator=generator(5)) + 0.1
    first, again, other = (random_masking(weight, 0.75, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])


def test_an_explicit_generator_leaves_the_global_one_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    random_masking(torch.ones(2, 64), draw_ratio(0.5, 0.9, generator()), generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_equal_weights_hide_every_patch_equally_often() -> None:
    hidden = random_masking(torch.ones(20000, 8), 0.125, generator())[1]
    assert chisquare(torch.bincount(hidden.flatten(), minlength=8).numpy()).pvalue > 0.01


def test_one_hidden_patch_is_drawn_in_proportion_to_the_weights() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0, 4.0])
    hidden = random_masking(weight.expand(20000, -1), 0.25, generator())[1]
    seen = torch.bincount(hidden.flatten(), minlength=4).numpy()
    assert chisquare(seen, (weight / weight.sum() * 20000).numpy()).pvalue > 0.01


@pytest.mark.parametrize("ratio", [0.125, 0.5, 0.875])
def test_heavier_patches_are_hidden_more_often_at_every_ratio(ratio: float) -> None:
    weight = torch.tensor([1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 9.0])
    hidden = random_masking(weight.expand(4000, -1), ratio, generator())[1]
    assert torch.all(torch.bincount(hidden.flatten(), minlength=8).diff() > 0)


def test_patches_of_weight_zero_are_hidden_last() -> None:
    weight = torch.tensor([0.0, 1, 1, 0, 1, 1, 0, 1]).expand(200, -1)
    hidden = random_masking(weight, 0.625, generator())[1]
    assert torch.equal(hidden.sort(dim=1).values, torch.tensor([1, 2, 4, 5, 7]).expand(200, -1))


def test_foreground_weights_are_the_share_of_tissue_and_hide_it_first() -> None:
    image = torch.zeros(1, 2, 8, 8, 8)
    image[:, 0, :4] = 0.5  # 4 of 8 patches are tissue
    image[:, 1, 4:5, :4, :4] = 0.5  # a quarter of another, in the other channel only
    weight = foreground_weight(image, [4, 4, 4])
    assert torch.allclose(weight, torch.tensor([[1, 1, 1, 1, 0.25, 0.05, 0.05, 0.05]]))
    hidden = random_masking(weight.expand(2000, -1), 0.5, generator())[1]
    counts = torch.bincount(hidden.flatten(), minlength=8)
    assert counts[:4].min() > 2 * counts[4:].max() and counts.min() > 0


def test_without_tissue_every_patch_is_hidden_equally_often() -> None:
    weight = foreground_weight(torch.zeros(5000, 1, 8, 8), [4, 4])
    hidden = random_masking(weight, 0.5, generator())[1]
    assert (torch.bincount(hidden.flatten(), minlength=4) / 5000 - 0.5).abs().max() < 0.03


@pytest.mark.parametrize("ratio", [0, 1, 0.0, 1.0, -0.5, 1.5, [0.0, 0.5], [0.5, 1.0], [0.8, 0.2]])
def test_a_ratio_that_hides_nothing_or_everything_is_refused(ratio: float | list[float]) -> None:
    with pytest.raises(InputError, match="masking_ratio"):
        ratio_range(ratio)


def test_a_range_is_drawn_from_and_a_number_is_itself() -> None:
    drawn = [draw_ratio(*ratio_range([0.5, 0.9]), generator(seed)) for seed in range(400)]
    assert 0.5 <= min(drawn) < 0.52 and 0.88 < max(drawn) <= 0.9
    assert abs(sum(drawn) / 400 - 0.7) < 0.02
    source = generator()
    before = source.get_state()
    assert draw_ratio(*ratio_range(0.75), source) == 0.75 and torch.equal(source.get_state(), before)
