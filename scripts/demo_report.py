"""What the demo found: the comparison of the two fine-tuned models, figures, and one self-contained page."""

from __future__ import annotations

import base64
import csv
import io
import os
import platform
import shlex
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from custom.scores import bootstrap_interval

from .demo_tasks import Task

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = Path(__file__).with_name("demo_report.html")
COLOURS = {"scratch": "#b3541e", "pretrained": "#1f5fa8"}
LABELS = {"scratch": "from scratch", "pretrained": "self pre-trained"}


@dataclass
class Step:
    """One run of a bundle and how long it took."""

    title: str
    bundle: str
    configs: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def command(self, folder: Path) -> str:
        """The command line that does the same, from the project's root; of a `folder` elsewhere it tells the name."""
        shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder.name
        files = [f"bundles/{self.bundle}/configs/{name}.json" for name in self.configs]
        words = ["python", "-m", "monai.bundle", "run", "--config_file", files[0] if len(files) == 1 else str(files)]
        for key, value in ({"bundle_root": f"bundles/{self.bundle}"} | self.options).items():
            words += [f"--{key}", str(value).replace(str(folder), str(shown))]
        return " ".join(f'"{word}"' if "'" in word else shlex.quote(word) for word in words)


@dataclass
class Comparison:
    """Native-space Dice of both arms: organ -> arm -> values, one per unseen case in the same order."""

    dice: dict[str, dict[str, np.ndarray]]
    hd95: dict[str, dict[str, np.ndarray]]

    def case_means(self, arm: str) -> np.ndarray:
        """Mean Dice over the organs of each case."""
        return np.nanmean(np.stack([values[arm] for values in self.dice.values()]), axis=0)

    def difference(self) -> tuple[float, float, float]:
        """Mean paired difference of case means, pre-trained minus scratch, with its 95 % bootstrap interval."""
        return bootstrap_interval(self.case_means("pretrained") - self.case_means("scratch"))

    def sentence(self) -> str:
        """The answer in words, whatever it is."""
        mean, low, high = self.difference()
        verdict = "lies above 0" if low > 0 else "lies below 0" if high < 0 else "includes 0"
        return (
            f"On these {len(self.case_means('scratch'))} unseen phantoms self pre-training changes mean Dice by "
            f"{mean:+.3f}, from {self.case_means('scratch').mean():.3f} to {self.case_means('pretrained').mean():.3f}. "
            f"The 95 % interval over cases, [{low:+.3f}, {high:+.3f}], {verdict}; it does not cover chance in "
            "training: one seed, a short budget, generated images."
        )

    def rows(self) -> list[tuple[str, float, float, float, float]]:
        """Organ, mean Dice scratch and pre-trained, mean HD95 in mm scratch and pre-trained."""
        mean = f"mean of {len(self.dice)}"
        dice = self.dice | {mean: {arm: self.case_means(arm) for arm in LABELS}}
        hd95 = {organ: found_by_both(values) for organ, values in self.hd95.items()}
        cases = range(len(self.case_means("scratch")))
        hd95[mean] = {
            arm: np.array([_mean(np.array([values[arm][case] for values in hd95.values()])) for case in cases])
            for arm in LABELS
        }
        return [
            (name, *(_mean(dice[name][arm]) for arm in LABELS), *(_mean(hd95[name][arm]) for arm in LABELS))
            for name in dice
        ]

    def table(self) -> str:
        """The rows as text."""
        lines = [f"{'structure':26}{'Dice scratch':>14}{'pre-trained':>13}{'HD95 mm scratch':>18}{'pre-trained':>13}"]
        lines += [f"{name:26}{a:14.3f}{b:13.3f}{number(c):>18}{number(d):>13}" for name, a, b, c, d in self.rows()]
        return "\n".join(lines)


def found_by_both(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """HD95 of both arms with NaN wherever one of them is undefined, so that both means cover the same cases."""
    both = np.all([np.isfinite(distances) for distances in values.values()], axis=0)
    return {arm: np.where(both, distances, np.nan) for arm, distances in values.items()}


def number(value: float) -> str:
    """One decimal, or a dash where there is no value."""
    return f"{value:.1f}" if np.isfinite(value) else "-"


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def read_comparison(folder: Path) -> Comparison:
    """Both arms' per_case.csv as arrays."""
    measures: dict[str, dict[str, dict[str, list[float]]]] = {name: defaultdict(dict) for name in MEASURES}
    for arm in LABELS:
        with (folder / arm / "per_case.csv").open() as file:
            for row in csv.DictReader(file):
                for name, column in MEASURES.items():
                    measures[name][row["organ"]].setdefault(arm, []).append(float(row[column] or "nan"))
    arrays = {
        name: {organ: {arm: np.array(values) for arm, values in arms.items()} for organ, arms in organs.items()}
        for name, organs in measures.items()
    }
    return Comparison(**arrays)


MEASURES = {"dice": "dice_native", "hd95": "hd95_mm_native"}


def read_scalars(folder: Path, tag: str) -> tuple[list[int], list[float]]:
    """Steps and values of a TensorBoard scalar."""
    steps: list[int] = []
    values: list[float] = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        events = EventAccumulator(str(file)).Reload()
        if tag in events.Tags()["scalars"]:
            steps += [event.step for event in events.Scalars(tag)]
            values += [event.value for event in events.Scalars(tag)]
    return steps, values


def picture(figure: Figure) -> str:
    """A figure as base64 PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def draw_pretraining(folder: Path) -> str:
    """Masked loss beside the trivial predictors, and the effective rank of each block."""
    with (folder / "pretraining" / "pretraining.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    steps = [row["iteration"] for row in rows]
    figure = Figure(figsize=(10, 3.4))
    loss, rank = figure.subplots(1, 2)
    names = {"masked_loss": "masked autoencoder", "neighbour_mean_loss": "mean of visible neighbours"}
    names |= {"position_mean_loss": "training mean at that position", "flat_patch_loss": "flat patch"}
    for column, name in names.items():
        loss.plot(steps, [row[column] for row in rows], label=name, lw=2 if column == "masked_loss" else 1)
    loss.set(xlabel="iteration", title="masked loss on training crops")
    loss.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1, 0.72))
    for column in [name for name in rows[0] if name.startswith("rank_block")]:
        rank.plot(steps, [row[column] for row in rows], label=column.removeprefix("rank_").replace("_", " "))
    rank.set(xlabel="iteration", title="effective rank of each block's output", ylim=(0, None))
    rank.legend(frameon=False, fontsize=8)
    return picture(figure)


def draw_fine_tuning(folder: Path) -> str:
    """Training loss and validation Dice of both arms against iterations."""
    figure = Figure(figsize=(10, 3.4))
    loss, dice = figure.subplots(1, 2)
    for arm, name in LABELS.items():
        steps, values = read_scalars(folder / arm, "train_loss")
        width = max(1, len(values) // 40)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        loss.plot(steps[width - 1 :], smooth, label=name, color=COLOURS[arm])
        dice.plot(*read_scalars(folder / arm, "val_mean_dice"), "o-", label=name, color=COLOURS[arm])
    loss.set(xlabel="iteration", title="fine-tuning loss (moving mean)")
    dice.set(xlabel="epoch", title="mean Dice on 3 validation cases", ylim=(0, None))
    dice.legend(frameon=False)
    return picture(figure)


def write_report(
    folder: Path, task: Task, case: str, steps: list[Step], comparison: Comparison, seconds: float
) -> Path:
    """Write report.html: numbers, curves, pictures, and what was run and for how long."""
    with (folder / "pretraining" / "reconstruction.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    unseen = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    pictures = {"reconstruction": f"pretraining/{case}_reconstruction.png", "overlay": f"pretrained/{case}_overlay.png"}
    images = {name: base64.b64encode((folder / path).read_bytes()).decode() for name, path in pictures.items()}
    page = Template(TEMPLATE.read_text(), autoescape=True).render(
        comparison=comparison, folder=folder, task=task, number=number, unseen=unseen, steps=steps,
        minutes=seconds / 60, images=images,
        pretraining=draw_pretraining(folder), fine_tuning=draw_fine_tuning(folder),
        machine=f"{os.cpu_count()} CPU cores, {platform.machine()}",
    )  # fmt: skip
    path = folder / "report.html"
    path.write_text(page)
    return path
