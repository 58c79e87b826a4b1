"""A step of fine-tuning: UNETR with ViT-B on one crop of 96 x 96 x 96 voxels, 14 classes."""

from __future__ import annotations

from functools import partial

import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNETR
from torch import Tensor

from .measure import Measured, Row, compare, in_child, take_turns
from .training import paper_bundle, timed_steps

SIZE, CLASSES = [96] * 3, 14
NAME = "fine-tuning step, UNETR with ViT-B, 1 crop of 96^3, bfloat16"


def measure(pairs: int) -> list[Row]:
    """Time and memory of a step: ours in bfloat16, MONAI's as it comes."""
    measured = take_turns(partial(in_child, ours), partial(in_child, baseline), pairs, warm_up=False)
    return [
        compare(f"{NAME}: time", "s", "s", measured, ">= 2.2"),
        compare(f"{NAME}: peak memory", "MiB", "MiB", measured),
    ]


def ours(amp: bool = True) -> Measured:
    """unetr_btcv's network, loss, optimiser and inferer at the paper's size."""
    bundle = paper_bundle("unetr_btcv", amp=amp)
    parts = ("network", "loss", "optimizer", "train#inferer")
    network, loss, optimizer, inferer = (bundle.get_parsed_content(part) for part in parts)
    image, label = crop()
    return timed_steps(lambda: loss(inferer(image, network), label), optimizer)


def baseline() -> Measured:
    """MONAI's network of equal size with its loss in single precision, and torch's AdamW as it comes."""
    network, loss = UNETR(1, CLASSES, SIZE), DiceCELoss(to_onehot_y=True, softmax=True)
    image, label = crop()
    return timed_steps(lambda: loss(network(image), label), torch.optim.AdamW(network.parameters()))


def crop() -> tuple[Tensor, Tensor]:
    """Image and labels, (1, 1, 96, 96, 96) each; what they show does not matter to the time."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, CLASSES, (1, 1, *SIZE), generator=generator)
    return torch.rand(1, 1, *SIZE, generator=generator), label.float()
