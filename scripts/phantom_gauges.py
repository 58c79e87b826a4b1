"""How hard are the phantoms? Random forests must fail on them and a small U-Net must not.

python -m scripts.phantom_gauges run --population mr --out DIR trains both and draws
docs/figures/phantom_mr_solvable.png; findings --out DIR does the same for the findings of chest X-rays.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap

from custom.data.phantoms.mr import CONTRASTS, generate_mr

from .command_line import run_command_line
from .phantom_forests import forest_gauge
from .phantom_populations import CT, POPULATIONS, Population
from .phantom_radiographs import draw_findings, films, findings
from .phantom_unet import train_unet

SOLVED = 0.75  # a phantom that a small U-Net cannot solve teaches nothing
COLOURS = ("#c9c9c9", "#9fb7cf", "#6f93b8", "#1f5fa8")
LABEL_COLOURS = ("#4aa3df", "#f2c14e", "#c0392b")  # oedema, non-enhancing core, enhancing
LIMITS = CT.limits


def draw(out: str, population: str = "ct", figure: str | None = None) -> None:
    """From out/gauges.json: the learning curve, and Dice of every region beside the forests'."""
    record = json.loads((Path(out) / "gauges.json").read_text())
    curve, gauged = record["curve"], POPULATIONS[population]
    canvas, (left, right) = plt.subplots(1, 2, figsize=(13, 4.2), width_ratios=(1, 2.6), layout="constrained")
    draw_curve(left, curve, gauged)
    bars = {f"forest, {kind}": dice for kind, dice in record["forests"].items()}
    draw_bars(right, bars | {"small U-Net": curve[-1]["dice"]}, gauged)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    canvas.savefig(figure or f"docs/figures/phantom_{population}_solvable.png", dpi=110)


def draw_curve(axis: Axes, curve: list[dict], gauged: Population) -> None:
    """Mean Dice of the headline regions over the steps."""
    headline = [name in gauged.headline for name in gauged.regions]
    means = [np.mean(np.compress(headline, row["dice"])) for row in curve]
    axis.plot([row["step"] for row in curve], means, marker="o", color="#1f5fa8")
    axis.axhline(SOLVED, color="0.6", linestyle="--", linewidth=1)
    named = f"{sum(headline)} organs" if gauged is CT else ", ".join(gauged.headline)
    axis.set(xlabel="training step", ylabel=f"mean Dice, {named}, unseen phantoms", xlim=(0, None), ylim=(0, 1))


def draw_bars(axis: Axes, bars: dict[str, list[float]], gauged: Population) -> None:
    """Dice of every region, one bar for each model."""
    where = np.arange(len(gauged.regions))
    for offset, ((name, dice), colour) in enumerate(zip(bars.items(), COLOURS, strict=True)):
        shown = f"{name} (mean {np.mean(dice):.2f})"
        axis.bar(where + 0.2 * (offset - 1.5), dice, 0.2, label=shown, color=colour)
    axis.set(ylabel="Dice", ylim=(0, 1))
    axis.set_xticks(where, [name.replace(" ", "\n") for name in gauged.regions], fontsize=7)
    axis.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def picture(figure: str = "docs/figures/phantom_mr_example.png", numbers: Sequence[int] = (2, 5, 7)) -> None:
    """Draw brain MR phantoms of seed 0: the slice with most tumour core in all contrasts, and its labels on FLAIR."""
    canvas, axes = plt.subplots(len(numbers), 5, figsize=(11, 2.65 * len(numbers)), layout="constrained", squeeze=False)
    for row, number in zip(axes, numbers, strict=True):
        image, label = generate_mr(0, number)
        level = int((label > 1).sum((0, 1)).argmax())
        for axis, channel, title in zip(row, (0, 1, 2, 3, 0), (*CONTRASTS, "labels on FLAIR"), strict=True):
            bright = np.percentile(image[..., channel][image[..., channel] > 0], 99.7)
            axis.imshow(image[:, :, level, channel].T[::-1], cmap="gray", vmin=0, vmax=bright)
            axis.set_axis_off()
            axis.set_title(title, fontsize=9)
        shown = np.ma.masked_equal(label[:, :, level].T[::-1], 0)
        row[-1].imshow(shown, cmap=ListedColormap(LABEL_COLOURS), vmin=1, vmax=3, alpha=0.7, interpolation="nearest")
    canvas.savefig(figure, dpi=90)


def run(
    out: str,
    population: str = "ct",
    train: int = 160,
    test: int = 16,
    steps: int = 1200,
    seed: int = 0,
    threads: int = 1,
    figure: str | None = None,
) -> None:
    """Make the phantoms, run the forests and the U-Net, and write out/gauges.json and the figure.

    Args:
        out: folder for the numbers, the curve and the weights.
        population: ct or mr.
        train: phantoms the U-Net is trained on; the forests see the first 10.
        test: further phantoms it is tested on; the forests, on the first 4 of them.
        steps: crops the U-Net is trained on.
        seed: population's seed.
        threads: of torch.
        figure: where to draw; without it docs/figures/phantom_POPULATION_solvable.png.
    """
    torch.set_num_threads(threads)
    gauged, folder = POPULATIONS[population], Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    cases = gauged.cases(seed, train + test)
    forests = {kind: forest_gauge(cases[:10], cases[train : train + 4], kind, gauged) for kind in gauged.limits}
    record = {"forests": {kind: dice.tolist() for kind, dice in forests.items()}}
    (folder / "gauges.json").write_text(json.dumps(record))
    curve = train_unet(cases[:train], cases[train:], gauged, steps, folder)
    (folder / "gauges.json").write_text(json.dumps(record | {"curve": curve}))
    draw(out, population, figure)


if __name__ == "__main__":
    commands = {"run": run, "draw": draw, "picture": picture}
    run_command_line(commands | {"findings": findings, "draw_findings": draw_findings, "films": films})
