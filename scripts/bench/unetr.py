"""A step of fine-tuning: UNETR with ViT-B on one crop of 96 x 96 x 96 voxels, 14 classes."""

from __future__ import annotations

from functools import partial

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from torch import Tensor

from custom.inferers import has_bfloat16

from .configs import CPU, bundle_config
from .measure import Measured, Row, absent, compare, in_child, take_turns
from .training import timed_steps

SIZE, CLASSES = [96] * 3, 14
NAME = "fine-tuning step, UNETR with ViT-B, 1 crop of 96^3"
THEIRS, THEIRS_HALF = "MONAI's UNETR, float32", "MONAI's UNETR, bfloat16 (torch.autocast)"
COMPARED = (("float32", THEIRS, ""), ("bfloat16", THEIRS_HALF, ""), ("bfloat16", THEIRS, "times >= 2.2"))


def measure(pairs: int) -> list[Row]:
    """Time and memory of a step: each number type against the same in MONAI's, and bfloat16 against MONAI's default."""
    sides = {"float32": partial(in_child, ours, False), THEIRS: partial(in_child, baseline, False)}
    if has_bfloat16("cpu"):
        sides |= {"bfloat16": partial(in_child, ours, True), THEIRS_HALF: partial(in_child, baseline, True)}
    measured, rows = take_turns(sides, pairs, warm_up=False), []
    for precision, theirs, goal in COMPARED:
        name = f"{NAME}, {precision} against {'bfloat16' if theirs == THEIRS_HALF else 'float32'}"
        if precision not in sides:
            rows.append(absent(name, "this CPU has no bfloat16"))
            continue
        rows.append(compare(f"{name}: time", "s", "s", measured, theirs, goal, precision))
        rows.append(compare(f"{name}: peak memory", "MiB", "MiB", measured, theirs, ours=precision))
    return rows


def ours(amp: bool) -> Measured:
    """unetr_btcv's network, loss, optimiser and inferer at the paper's size, with or without bfloat16."""
    bundle = bundle_config("unetr_btcv", "train", "paper", **CPU, amp=amp)
    parts = ("network", "loss", "optimizer", "train#inferer")
    network, loss, optimizer, inferer = (bundle.get_parsed_content(part) for part in parts)
    image, label = crop()
    return timed_steps(lambda: loss(inferer(image, network), label), optimizer)


def baseline(amp: bool) -> Measured:
    """MONAI's network of equal size and its loss, both under autocast or neither, and torch's AdamW as it comes."""
    network, loss = UNETR(1, CLASSES, SIZE), DiceCELoss(to_onehot_y=True, softmax=True)
    image, label = crop()

    def step() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            return loss(network(image), label)

    return timed_steps(step, torch.optim.AdamW(network.parameters()))


def crop() -> tuple[Tensor, Tensor]:
    """Image and labels, (1, 1, 96, 96, 96) each; what they show does not matter to the time."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, CLASSES, (1, 1, *SIZE), generator=generator)
    return torch.rand(1, 1, *SIZE, generator=generator), label.float()
