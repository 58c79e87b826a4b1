"""Does bfloat16 train as single precision does? `python -m scripts.bench.unetr_curve`.

Trains UNETR three times from the same weights on crops of generated CT: in single precision, the same with another
order of crops, which shows how far curves lie apart by chance, and in bfloat16 with the first order.
"""

from __future__ import annotations

import csv
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from custom.data.phantoms.ct import generate_ct
from custom.files import write_csv
from scripts.command_line import run_command_line

from .configs import CPU, bundle_config

CURVES = {"float32": (False, 0), "float32, other order": (False, 1), "bfloat16": (True, 0)}
MARGIN, FIELD = 1.25, 360.0  # a scan is this many times longer than a crop, and shows so many mm, along every axis
Crop = tuple[Tensor, Tensor]


def compare(
    steps: int = 200,
    image_size: int = 96,
    hidden_size: int = 768,
    num_layers: int = 12,
    patients: int = 4,
    learning_rate: float = 4e-4,
    output_dir: str = "unetr_curve",
) -> None:
    """Write unetr_curve.csv and .png, and print how far the curves lie apart over the last quarter, 50 steps of 200.

    Args:
        steps, learning_rate: of each training; the rate is constant.
        image_size: voxels of a crop along an axis.
        hidden_size, num_layers: of the Vision Transformer; 64 channels a head.
        patients: generated scans that the crops are of.
        output_dir: folder for both files; made where missing.
    """
    sizes = {"img_size": [image_size] * 3, "hidden_size": hidden_size, "num_layers": num_layers}
    sizes |= {"num_heads": hidden_size // 64, "learning_rate": learning_rate}
    scans = [scan(index, image_size) for index in range(patients)]
    curves = {
        name: train(random_crops(scans, steps, image_size, order), amp, sizes) for name, (amp, order) in CURVES.items()
    }
    write(curves, Path(output_dir))
    sys.stdout.write(summary(curves) + "\n")


def write(curves: dict[str, NDArray[np.float64]], folder: Path) -> None:
    """Both files."""
    folder.mkdir(parents=True, exist_ok=True)
    table = zip(*curves.values(), strict=True)
    write_csv(
        folder / "unetr_curve.csv", ["step", *curves], [[step, *line] for step, line in enumerate(table, start=1)]
    )
    draw(curves, folder / "unetr_curve.png")


def scan(index: int, image_size: int) -> Crop:
    """Image scaled to 0..1 as unetr_btcv does, and labels, (S, S, S) each, of the middle of a generated abdomen."""
    voxels = round(image_size * MARGIN)
    hu, label = generate_ct(0, index, [voxels] * 3, [FIELD / voxels] * 3)
    low, high = bundle_config("unetr_btcv", "train", "paper").get_parsed_content("intensity_range")
    image = ((torch.from_numpy(hu).float() - low) / (high - low)).clamp(0, 1)
    return image, torch.from_numpy(label).float()


def random_crops(scans: Sequence[Crop], steps: int, image_size: int, order: int) -> list[Crop]:
    """A crop (1, 1, N, N, N) of image and labels for every step: the same set for every `order`, else shuffled."""
    rng = np.random.default_rng(0)
    crops = []
    for step in range(steps):
        image, label = scans[step % len(scans)]
        corner = rng.integers(0, image.shape[0] - image_size + 1, size=3)
        where = (None, None, *(slice(start, start + image_size) for start in corner))
        crops.append((image[where], label[where]))
    shuffled = np.random.default_rng(order + 1).permutation(steps)
    return [crops[index] for index in shuffled]


def train(crops: Sequence[Crop], amp: bool, sizes: dict[str, object]) -> NDArray[np.float64]:
    """The loss of every step, one a crop, with unetr_btcv's parts at the given sizes and the same first weights."""
    torch.manual_seed(0)
    bundle = bundle_config("unetr_btcv", "train", "paper", **CPU, amp=amp, **sizes)
    parts = ("network", "loss", "optimizer", "train#inferer")
    network, loss, optimizer, inferer = (bundle.get_parsed_content(part) for part in parts)
    losses = []
    for image, label in crops:
        optimizer.zero_grad(set_to_none=False)
        value = loss(inferer(image, network), label)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return np.array(losses)


def draw(curves: dict[str, NDArray[np.float64]], path: Path) -> None:
    """The loss of every training over its steps."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for name, losses in curves.items():
        axes.plot(np.arange(1, len(losses) + 1), losses, linewidth=1, label=name)
    axes.set(xlabel="step", ylabel="Dice and cross-entropy loss")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def read_curves(path: Path) -> dict[str, NDArray[np.float64]]:
    """The losses of every training, of the table that `write` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    columns = np.array(rows, dtype=float).T
    return dict(zip(header[1:], columns[1:], strict=True))


def summary(curves: dict[str, NDArray[np.float64]]) -> str:
    """How far bfloat16 lies from float32 over the last quarter, beside how far another order of crops does."""
    steps = len(curves["float32"])
    last = max(1, steps // 4)
    exact, shuffled, half = (curves[name][-last:] for name in CURVES)
    return (
        f"Of {steps} steps from the same weights, in the last {last} the loss in bfloat16 differs from that in float32 "
        f"by {np.abs(half - exact).mean():.4f} a step, and that of float32 with the crops in another order by "
        f"{np.abs(shuffled - exact).mean():.4f}. From the mean of these steps, {exact.mean():.4f}, bfloat16 lies "
        f"{half.mean() - exact.mean():+.4f}, the other order {shuffled.mean() - exact.mean():+.4f}."
    )


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    run_command_line(compare)
