"""Images as sequences of patches: cut, put together, select, and say where each one is.

A grid is the number of patches per axis; patches are counted with the last axis fastest, in H, W, D order.
Everything works for any number of spatial axes and any patch size per axis.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InputError


def per_axis(value: int | Sequence[int], axes: int, name: str) -> list[int]:
    """One integer per spatial axis from an integer or a sequence; raises InputError on another length."""
    values = [value] * axes if isinstance(value, int) else [int(v) for v in value]
    if len(values) != axes or min(values) < 1:
        raise InputError(f"{name} {value} must be one positive integer or {axes} of them, one per spatial axis")
    return values


def patch_grid(img_size: Sequence[int], patch_size: Sequence[int]) -> list[int]:
    """Patches per axis; raises InputError when a patch does not fit a whole number of times."""
    for axis, (size, patch) in enumerate(zip(img_size, patch_size, strict=True)):
        if size % patch:
            raise InputError(
                f"img_size {size} is not a multiple of patch_size {patch} along axis {axis}; "
                f"use {(size // patch + 1) * patch} or another patch size"
            )
    return [size // patch for size, patch in zip(img_size, patch_size, strict=True)]


def patchify(image: Tensor, patch_size: list[int]) -> Tensor:
    """(B, C, H, W, D) -> (B, L, ph*pw*pd*C): patches in grid order, channel fastest inside a patch."""
    shape = [image.shape[0], image.shape[1]]
    grid_axes: list[int] = []
    voxel_axes: list[int] = []
    for axis, patch in enumerate(patch_size):
        shape += [image.shape[2 + axis] // patch, patch]
        grid_axes.append(2 + 2 * axis)
        voxel_axes.append(3 + 2 * axis)
    patches = image.reshape(shape).permute([0] + grid_axes + voxel_axes + [1])  # (B, gh, gw, gd, ph, pw, pd, C)
    return patches.flatten(1 + len(patch_size)).flatten(1, -2)


def unpatchify(patches: Tensor, grid: list[int], patch_size: list[int]) -> Tensor:
    """The inverse of `patchify`: (B, L, ph*pw*pd*C) -> (B, C, H, W, D)."""
    axes = len(grid)
    split = patches.reshape([patches.shape[0]] + grid + patch_size + [-1])  # (B, gh, gw, gd, ph, pw, pd, C)
    order = [0, 2 * axes + 1]
    shape = [split.shape[0], split.shape[-1]]
    for axis in range(axes):
        order += [1 + axis, 1 + axes + axis]
        shape.append(grid[axis] * patch_size[axis])
    return split.permute(order).reshape(shape)


def gather_tokens(tokens: Tensor, index: Tensor) -> Tensor:
    """Select tokens of each sample: tokens (B or 1, L, D), index (B, K) -> (B, K, D)."""
    tokens = tokens.expand(index.shape[0], -1, -1)
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[2]))


def patch_statistics(patches: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Mean and spread, sqrt(biased variance + eps), of every patch vector (B, M, P) -> (B, M, 1) each.

    weight (B, M, P), where given, is 0 for voxels that do not count.
    """
    if weight is None:
        variance, mean = torch.var_mean(patches, dim=2, unbiased=False, keepdim=True)
    else:
        share = weight / weight.sum(dim=2, keepdim=True).clamp_min(1)
        mean = (patches * share).sum(dim=2, keepdim=True)
        variance = ((patches - mean).square() * share).sum(dim=2, keepdim=True)
    return mean, (variance + eps).sqrt()


def sincos_position(grid: Sequence[int], width: int) -> Tensor:
    """Fixed sine-cosine position embedding of a grid in n dimensions -> (1, L, width).

    Each axis, in H, W, D order, takes width / n values: sines, then cosines, of its index times
    10000 ** (-k / q), k = 0 .. q - 1, q = width / 2n (the paper's choice; MONAI orders the axes W, H, D).
    """
    axes = len(grid)
    if width % (2 * axes):
        raise InputError(
            f"hidden size {width} is not a multiple of {2 * axes}, as a {axes}-D sine-cosine embedding needs; "
            f"use {(width // (2 * axes) + 1) * 2 * axes}"
        )
    quarter = width // (2 * axes)
    omega = 10000.0 ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    indices = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in grid), indexing="ij")
    angles = [index.reshape(-1, 1) * omega for index in indices]  # per axis (L, q)
    return torch.cat([f(angle) for angle in angles for f in (torch.sin, torch.cos)], dim=1).float().unsqueeze(0)


def interpolate_position(position: Tensor, old_grid: Sequence[int], new_grid: Sequence[int]) -> Tensor:
    """Resample a position embedding (1, 1 + L, D), class token first, from one grid to another, linearly per axis."""
    if position.shape[1] != 1 + prod(old_grid):
        raise InputError(f"position embedding has {position.shape[1] - 1} patches, which is not a grid of {old_grid}")
    cls_position, patches = position[:, :1], position[:, 1:]
    table = patches.reshape(1, *old_grid, -1).movedim(-1, 1)  # (1, D, gh, gw, gd)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(old_grid)]
    table = functional.interpolate(table.float(), size=tuple(new_grid), mode=mode, align_corners=False)
    return torch.cat([cls_position, table.flatten(2).transpose(1, 2).to(position.dtype)], dim=1)
