"""Cutting images into patches, selecting them, and saying where they are."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from custom.errors import InputError
from custom.networks.tokens import (
    gather_tokens,
    interpolate_position,
    patch_grid,
    patch_statistics,
    patchify,
    per_axis,
    sincos_position,
    unpatchify,
)
from custom.networks.vit import PatchEmbedding, tokens_to_volume

GRIDS = [
    ([16, 16], [4, 4]),
    ([8, 12], [4, 2]),
    ([8, 8, 8], [4, 4, 4]),
    ([8, 12, 4], [4, 4, 4]),
    ([6, 8, 10], [3, 2, 5]),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "patch"), GRIDS)
def test_patchify_then_unpatchify_is_the_identity(size: list[int], patch: list[int], channels: int) -> None:
    image = torch.randn(2, channels, *size)
    patches = patchify(image, patch)
    grid = patch_grid(size, patch)
    assert patches.shape == (2, torch.tensor(grid).prod(), channels * torch.tensor(patch).prod())
    assert torch.equal(unpatchify(patches, grid, patch), image)


def test_a_patch_vector_holds_its_voxels_in_order_with_the_channel_fastest() -> None:
    size, patch = [4, 6, 6], [2, 3, 2]
    image = torch.randn(1, 2, *size)
    patches = patchify(image, patch)
    for index, corner in enumerate(product(range(0, 4, 2), range(0, 6, 3), range(0, 6, 2))):
        block = image[0][(slice(None), *(slice(c, c + p) for c, p in zip(corner, patch, strict=True)))]
        assert torch.equal(patches[0, index], block.permute(1, 2, 3, 0).flatten())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "patch"), GRIDS)
def test_patch_embedding_of_patches_equals_its_strided_convolution(
    size: list[int], patch: list[int], channels: int
) -> None:
    embedding = PatchEmbedding(channels, patch, 24)
    image = torch.randn(2, channels, *size)
    convolved = embedding.proj(image).flatten(2).transpose(1, 2)
    assert torch.allclose(embedding(patchify(image, patch)), convolved, atol=1e-5)


def test_patch_embedding_embeds_only_the_patches_given() -> None:
    embedding = PatchEmbedding(1, [4, 4, 4], 24)
    assert isinstance(embedding.proj, nn.Conv3d)
    patches = patchify(torch.randn(2, 1, 8, 8, 8), [4, 4, 4])
    keep = torch.tensor([[5, 0], [1, 7]])
    some = embedding(gather_tokens(patches, keep))
    assert some.shape == (2, 2, 24)
    assert torch.allclose(some, gather_tokens(embedding(patches), keep), atol=1e-6)


def test_gather_selects_each_samples_own_tokens_also_from_one_shared_table() -> None:
    index = torch.tensor([[3, 1], [0, 2]])
    tokens = torch.arange(16.0).reshape(2, 4, 2)
    assert torch.equal(gather_tokens(tokens, index), torch.stack([tokens[0, [3, 1]], tokens[1, [0, 2]]]))
    assert torch.equal(gather_tokens(tokens[:1], index), torch.stack([tokens[0, [3, 1]], tokens[0, [0, 2]]]))


def test_patch_statistics_use_the_biased_variance() -> None:
    patches = torch.randn(2, 3, 8)
    mean, spread = patch_statistics(patches)
    assert torch.allclose(mean, patches.mean(2, keepdim=True))
    assert torch.allclose(spread.square(), patches.var(2, unbiased=False, keepdim=True) + 1e-6)


@pytest.mark.parametrize(("grid", "width"), [([3, 4], 16), ([2, 3, 4], 24), ([5, 1, 2], 48), ([6], 8)])
def test_position_embedding_gives_each_axis_its_share_in_h_w_d_order(grid: list[int], width: int) -> None:
    table = sincos_position(grid, width).reshape(*grid, len(grid), width // len(grid))
    quarter = width // (2 * len(grid))
    omega = 10000.0 ** (-torch.arange(quarter) / quarter)
    for place in product(*(range(n) for n in grid)):
        for axis, index in enumerate(place):
            expected = torch.cat([(index * omega).sin(), (index * omega).cos()])
            assert torch.allclose(table[(*place, axis)], expected, atol=1e-6)


@pytest.mark.parametrize("grid", [[14, 14], [6, 6, 6], [8, 8, 8], [3, 7, 2]])
def test_every_position_has_an_embedding_of_its_own(grid: list[int]) -> None:
    table = sincos_position(grid, 24)[0]
    apart = torch.cdist(table, table) + torch.eye(len(table)) * 9
    assert apart.min() > 1e-2


@pytest.mark.parametrize(("axes", "width", "good"), [(3, 64, 66), (2, 50, 52), (3, 5, 6)])
def test_a_width_that_positions_do_not_fit_is_refused_with_one_that_works(axes: int, width: int, good: int) -> None:
    with pytest.raises(InputError, match=f"hidden size {width} .* use {good}"):
        sincos_position([2] * axes, width)
    assert sincos_position([2] * axes, good).shape == (1, 2**axes, good)


@pytest.mark.parametrize("grid", [[4, 5], [3, 4, 2]])
def test_interpolation_to_the_same_grid_is_the_identity(grid: list[int]) -> None:
    position = torch.randn(1, 1 + torch.tensor(grid).prod(), 12)
    assert torch.equal(interpolate_position(position, grid, grid), position)


@pytest.mark.parametrize(("old", "new"), [([2, 3], [5, 4]), ([2, 2, 3], [4, 3, 6])])
def test_interpolation_keeps_the_class_token_and_the_order_of_axes(old: list[int], new: list[int]) -> None:
    along = [torch.arange(n, dtype=torch.float32) for n in old]
    ramps = torch.stack(torch.meshgrid(*along, indexing="ij"), dim=-1).reshape(1, -1, len(old))
    position = torch.cat([torch.full((1, 1, len(old)), 7.0), ramps], dim=1)
    result = interpolate_position(position, old, new)
    assert torch.equal(result[:, 0], position[:, 0])
    table = result[0, 1:].reshape(*new, len(old))
    for axis in range(len(old)):
        lines = table[..., axis].movedim(axis, 0).flatten(1)
        assert torch.allclose(lines, lines[:, :1]), "an axis' ramp must not vary along another axis"
        assert torch.all(lines.diff(dim=0) > -1e-6) and lines[0, 0] == 0 and lines[-1, 0] == old[axis] - 1


def test_interpolation_of_a_constant_table_is_that_constant() -> None:
    position = torch.full((1, 9, 6), 0.25)
    assert torch.allclose(interpolate_position(position, [2, 2, 2], [5, 3, 4]), torch.full((1, 61, 6), 0.25))


def test_a_position_embedding_of_another_grid_is_refused() -> None:
    with pytest.raises(InputError, match="8 patches"):
        interpolate_position(torch.zeros(1, 9, 6), [2, 2, 3], [4, 4, 4])


def test_tokens_become_a_volume_on_the_grid_without_the_class_token() -> None:
    tokens = torch.randn(2, 1 + 24, 5)
    volume = tokens_to_volume(tokens, [2, 3, 4])
    assert volume.shape == (2, 5, 2, 3, 4)
    assert torch.equal(volume[1, :, 1, 2, 3], tokens[1, -1]) and torch.equal(volume[0, :, 0, 0, 1], tokens[0, 2])


def test_an_image_size_that_is_no_multiple_of_the_patch_names_the_axis_and_a_size_that_is() -> None:
    with pytest.raises(InputError, match=r"img_size 100 .* patch_size 16 along axis 2; use 112"):
        patch_grid([96, 96, 100], [16, 16, 16])


@pytest.mark.parametrize("value", [[4, 4], [4, 4, 4, 4], 0, [4, -1, 4]])
def test_a_patch_size_needs_one_positive_number_an_axis(value: int | list[int]) -> None:
    assert per_axis(4, 3, "patch_size") == [4, 4, 4] and per_axis((2, 3), 2, "patch_size") == [2, 3]
    with pytest.raises(InputError, match="patch_size"):
        per_axis(value, 3, "patch_size")
