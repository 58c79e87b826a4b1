"""A small U-Net that must solve the phantoms: network, training on random crops, Dice on whole unseen phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from custom.inferers import has_bfloat16

from .phantom_forests import dice_per_region
from .phantom_populations import Case, Population


def small_unet(channels: int, classes: int) -> nn.Module:
    """MONAI's residual U-Net between a stem and a head that halve and restore the grid, to fit a laptop's processor."""
    body = UNet(3, 48, 48, (48, 96, 192), (2, 2), num_res_units=2)
    return nn.Sequential(nn.Conv3d(channels, 48, 2, 2), body, nn.ConvTranspose3d(48, classes, 2, 2))


def as_input(prepared: NDArray) -> Tensor:
    """(C, H, W, D) to a network input (1, C, H, W, D), padded with the smallest value to a multiple of 8."""
    pads = [(0, 0), *((0, -n % 8) for n in prepared.shape[1:])]
    return torch.from_numpy(np.pad(prepared, pads, constant_values=prepared.min()))[None]


@torch.no_grad()
def evaluate(network: nn.Module, test: list[Case], population: Population) -> NDArray:
    """Mean Dice (K,) over whole unseen phantoms."""
    network.eval()
    scores = []
    for image, label in test:
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
            logits = network(as_input(population.prepare(image)))
        prediction = logits.argmax(1)[0][tuple(slice(n) for n in label.shape)].numpy()
        scores.append(dice_per_region(label, prediction, population.regions))
    network.train()
    return np.nanmean(scores, axis=0)


def train_unet(
    train: list[Case], test: list[Case], population: Population, steps: int, out: Path, every: int = 200
) -> list[dict]:
    """Train for `steps` crops; the learning curve as a list of step, loss and Dice, also in out/curve.json."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = small_unet(population.channels, population.classes).to(memory_format=torch.channels_last_3d)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    curve, losses = [], []
    for step in tqdm(range(1, steps + 1), desc="U-Net", unit="step"):
        image, label = train[rng.integers(len(train))]
        prepared, label = random_crop(population.prepare(image), label, rng, population.crop)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
            logits = network(as_input(prepared).contiguous(memory_format=torch.channels_last_3d))
        loss = loss_of(logits.float(), torch.from_numpy(label)[None, None])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % every == 0 or step == steps:
            dice = evaluate(network, test if step == steps else test[:6], population)
            curve.append({"step": step, "loss": float(np.mean(losses[-every:])), "dice": dice.tolist()})
            (out / "curve.json").write_text(json.dumps(curve))
            torch.save(network.state_dict(), out / "unet.pt")
    return curve


def random_crop(prepared: NDArray, label: NDArray, rng: np.random.Generator, size: tuple[int, ...]) -> Case:
    """The same random box of (C, H, W, D) and (H, W, D), about the size of the body."""
    start = [int(rng.integers(n - s + 1)) for n, s in zip(label.shape, size, strict=True)]
    box = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    return prepared[(slice(None), *box)], label[box]
