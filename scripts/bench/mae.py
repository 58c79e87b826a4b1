"""A step of pre-training: ViT-B on two crops of 96 x 96 x 96 voxels, three quarters of the patches masked."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from monai.networks.nets import MaskedAutoEncoderViT
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from custom.inferers import has_bfloat16
from custom.networks.tokens import patchify

from .configs import CPU, bundle_config
from .measure import Measured, Rounds, Row, absent, alone, compare, in_child, take_turns
from .training import timed_steps

SIZE, PATCH, BATCH = [96] * 3, [16] * 3, 2
NAME = "pre-training step, ViT-B, 2 crops of 96^3"
THEIRS = "MONAI's MaskedAutoEncoderViT, float32 (it does not run under autocast)"
GOALS = {"float32": "times >= 1.25", "bfloat16": "times >= 1.8"}


def measure(pairs: int) -> list[Row]:
    """Time and memory of a step in both number types, and the rate of the arithmetic beside that of a product."""
    sides = {"float32": partial(in_child, ours, False), THEIRS: partial(in_child, baseline)}
    sides |= {"bfloat16": partial(in_child, ours, True)} if has_bfloat16("cpu") else {}
    measured = take_turns(sides, pairs, warm_up=False)
    found = [in_child(rates) for _ in range(pairs)]
    return [
        *(row for precision, goal in GOALS.items() for row in rows_of(measured, precision, goal)),
        alone(f"{NAME}, float32: forward and backward", "GFLOP/s", [rate["step"] for rate in found]),
        alone("product of 4096 x 768 and 768 x 3072, float32", "GFLOP/s", [rate["product"] for rate in found]),
        alone(f"{NAME}, float32: share of that rate", "%", [rate["share %"] for rate in found], "ours >= 60"),
    ]


def rows_of(measured: Rounds, precision: str, goal: str) -> list[Row]:
    """Time and memory of ours in a number type."""
    if precision not in measured[0]:
        return [absent(f"{NAME}, {precision}", "this CPU has no bfloat16")]
    return [
        compare(f"{NAME}, {precision}: time", "s", "s", measured, THEIRS, goal, precision),
        compare(f"{NAME}, {precision}: peak memory", "MiB", "MiB", measured, THEIRS, ours=precision),
    ]


def ours(amp: bool) -> Measured:
    """mae_pretrain_ct's network, loss, optimiser and inferer, with or without bfloat16."""
    return timed_steps(*our_parts(amp))


def baseline() -> Measured:
    """MONAI's network of equal size, which does not run under autocast, and torch's AdamW as it comes."""
    network = MaskedAutoEncoderViT(
        1, SIZE, PATCH, 768, 3072, 12, 12, 0.75, decoder_hidden_size=384, decoder_mlp_dim=1536, decoder_num_layers=8,
        decoder_num_heads=12, qkv_bias=True,
    )  # fmt: skip
    image = crops()
    return timed_steps(lambda: masked_loss(network, image), torch.optim.AdamW(network.parameters()))


def crops() -> Tensor:
    """Two crops (2, 1, 96, 96, 96); what they show does not matter to the time."""
    return torch.rand(BATCH, 1, *SIZE, generator=torch.Generator().manual_seed(0))


def our_parts(amp: bool) -> tuple[Callable[[], Tensor], Optimizer]:
    """The loss of a step as the trainer of the bundle gets it, and the optimiser."""
    bundle = bundle_config("mae_pretrain_ct", "train", "paper", **CPU, masking_ratio=0.75, amp=amp)
    parts = ("network", "loss", "optimizer", "train#inferer", "prepare_batch")
    network, loss, optimizer, inferer, prepare_batch = (bundle.get_parsed_content(part) for part in parts)
    image, target = prepare_batch({"image": crops()}, torch.device("cpu"))
    return lambda: loss(inferer(image, network), target), optimizer


def masked_loss(network: nn.Module, image: Tensor) -> Tensor:
    """Mean squared error over masked patches, each normalised by its own mean and variance."""
    values, mask = network(image)
    patches = patchify(image, PATCH)
    variance, mean = torch.var_mean(patches, dim=2, keepdim=True)
    error = (values - (patches - mean) / (variance + 1e-6).sqrt()).square().mean(dim=2)
    return (error * mask).sum() / mask.sum()


def rates() -> Measured:
    """Operations a second of forward and backward in single precision and of a matrix product, and their ratio."""
    loss, optimizer = our_parts(amp=False)
    steps, product = timed_steps(loss, optimizer), product_rate()
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    rate = counter.get_total_flops() / (steps["forward s"] + steps["backward s"]) / 1e9
    return {"step": rate, "product": product, "share %": 100 * rate / product}


def product_rate(shape: tuple[int, int, int] = (4096, 768, 3072), repeats: int = 20) -> float:
    """1e9 operations a second of a large product of matrices in single precision."""
    rows, inner, columns = shape
    left, right = torch.rand(rows, inner), torch.rand(inner, columns)
    torch.mm(left, right)
    start = time.perf_counter()
    for _ in range(repeats):
        torch.mm(left, right)
    return 2 * rows * inner * columns * repeats / (time.perf_counter() - start) / 1e9
