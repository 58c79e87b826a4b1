"""How hard are the CT phantoms? Random forests must fail on them and a small U-Net must not.

python -m scripts.phantom_gauges run --out DIR trains both and writes docs/figures/phantom_ct_solvable.png.
"""

from __future__ import annotations

import json
from pathlib import Path

import fire
import matplotlib.pyplot as plt
import numpy as np
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn
from tqdm import tqdm

from custom.data.phantoms.ct import ORGANS, generate_ct

SHAPE, SPACING = (96, 84, 72), (4.0, 4.0, 4.0)
PUBLISHED = (1, 2, 3, 4, 6, 7, 8, 11)  # the eight organs of the TransUNet table
SOLVED = 0.75  # a phantom that a small U-Net cannot solve teaches nothing
FIGURE = "docs/figures/phantom_ct_solvable.png"
COLOURS = ("#c9c9c9", "#9fb7cf", "#6f93b8", "#1f5fa8")
LIMITS = {"intensity": 0.30, "position": 0.50, "both": 0.60}

Case = tuple[NDArray, NDArray]


def intensity_features(image: NDArray) -> NDArray[np.float32]:
    """The voxel, and mean and standard deviation over cubes of 3, 5 and 9 voxels: (H, W, D, 7), in HU."""
    clipped = np.clip(image, -175, 250).astype(np.float32)
    features = [clipped]
    for size in (3, 5, 9):
        mean = uniform_filter(clipped, size)
        spread = np.sqrt(np.clip(uniform_filter(clipped**2, size) - mean**2, 0, None))
        features += [mean, spread]
    return np.stack(features, axis=-1)


def position_features(image: NDArray) -> NDArray[np.float32]:
    """Voxel coordinates (H, W, D, 3)."""
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in image.shape), indexing="ij"), axis=-1)


def features_of(image: NDArray, kind: str) -> NDArray[np.float32]:
    """The features (H, W, D, F) of one gauge: intensity, position, or both."""
    parts = []
    if kind != "position":
        parts.append(intensity_features(image))
    if kind != "intensity":
        parts.append(position_features(image))
    return np.concatenate(parts, axis=-1)


def dice_per_organ(truth: NDArray, prediction: NDArray) -> NDArray:
    """Dice of labels 1 to 13, nan where an organ is in neither."""
    scores = np.full(13, np.nan)
    for label in range(1, 14):
        first, second = truth == label, prediction == label
        if total := first.sum() + second.sum():
            scores[label - 1] = 2 * (first & second).sum() / total
    return scores


def forest_gauge(train: list[Case], test: list[Case], kind: str, voxels: int = 25_000, seed: int = 0) -> NDArray:
    """Mean Dice (13,) over `test` of a random forest that saw `voxels` voxels, at their true prevalence, of each case.

    Every voxel of a test case is predicted, so that false alarms count in full.
    """
    rng = np.random.default_rng(seed)
    inputs, targets = [], []
    for image, label in train:
        body = np.flatnonzero(image > -300)
        chosen = rng.choice(body, min(voxels, body.size), replace=False)
        inputs.append(features_of(image, kind).reshape(image.size, -1)[chosen])
        targets.append(label.ravel()[chosen])
    forest = RandomForestClassifier(40, min_samples_leaf=3, n_jobs=1, random_state=seed)
    forest.fit(np.concatenate(inputs), np.concatenate(targets))
    scores = []
    for image, label in test:
        prediction = forest.predict(features_of(image, kind).reshape(image.size, -1))
        scores.append(dice_per_organ(label.ravel(), prediction))
    return np.nanmean(scores, axis=0)


def small_unet() -> nn.Module:
    """MONAI's residual U-Net between a stem and a head that halve and restore the grid, to fit a laptop's processor."""
    body = UNet(3, 48, 48, (48, 96, 192), (2, 2), num_res_units=2)
    return nn.Sequential(nn.Conv3d(1, 48, 2, 2), body, nn.ConvTranspose3d(48, 14, 2, 2))


def as_input(image: NDArray) -> Tensor:
    """HU (H, W, D) to a network input (1, 1, H, W, D): the window -175..250 to 0..1, padded to a multiple of 8."""
    pads = [(0, -n % 8) for n in image.shape]
    window = np.pad((np.clip(image, -175, 250) + 175) / 425, pads).astype(np.float32)
    return torch.from_numpy(window)[None, None]


@torch.no_grad()
def evaluate(network: nn.Module, test: list[Case]) -> NDArray:
    """Mean Dice (13,) over whole unseen phantoms."""
    network.eval()
    scores = []
    for image, label in test:
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(as_input(image))
        prediction = logits.argmax(1)[0][tuple(slice(n) for n in label.shape)].numpy()
        scores.append(dice_per_organ(label, prediction))
    network.train()
    return np.nanmean(scores, axis=0)


def train_unet(train: list[Case], test: list[Case], steps: int, out: Path, every: int = 200) -> list[dict]:
    """Train for `steps` crops; the learning curve as a list of step, loss and Dice, also in out/curve.json."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = small_unet().to(memory_format=torch.channels_last_3d)
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    curve, losses = [], []
    for step in tqdm(range(1, steps + 1), desc="U-Net", unit="step"):
        image, label = random_crop(*train[rng.integers(len(train))], rng)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(as_input(image).contiguous(memory_format=torch.channels_last_3d))
        loss = loss_of(logits.float(), torch.from_numpy(label)[None, None])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % every == 0 or step == steps:
            dice = evaluate(network, test if step == steps else test[:6])
            curve.append({"step": step, "loss": float(np.mean(losses[-every:])), "dice": dice.tolist()})
            (out / "curve.json").write_text(json.dumps(curve))
            torch.save(network.state_dict(), out / "unet.pt")
    return curve


def random_crop(image: NDArray, label: NDArray, rng: np.random.Generator, size: tuple = (80, 64, 72)) -> Case:
    """The same random box of both, about the size of the body."""
    start = [int(rng.integers(n - s + 1)) for n, s in zip(image.shape, size, strict=True)]
    box = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
    return image[box], label[box]


def draw(out: str, figure: str = FIGURE) -> None:
    """From out/gauges.json: the learning curve, and Dice of every organ beside the forests'."""
    record = json.loads((Path(out) / "gauges.json").read_text())
    curve, forests = record["curve"], record["forests"]
    canvas, (left, right) = plt.subplots(1, 2, figsize=(13, 4.2), width_ratios=(1, 2.6), layout="constrained")
    published = [np.mean([row["dice"][label - 1] for label in PUBLISHED]) for row in curve]
    left.plot([row["step"] for row in curve], published, marker="o", color="#1f5fa8")
    left.axhline(SOLVED, color="0.6", linestyle="--", linewidth=1)
    left.set(xlabel="training step", ylabel="mean Dice, 8 organs, unseen phantoms", xlim=(0, None), ylim=(0, 1))
    bars = {f"forest, {kind}": dice for kind, dice in forests.items()} | {"small U-Net": curve[-1]["dice"]}
    for offset, ((name, dice), colour) in enumerate(zip(bars.items(), COLOURS, strict=True)):
        shown = f"{name} (mean {np.mean(dice):.2f})"
        right.bar(np.arange(13) + 0.2 * (offset - 1.5), dice, 0.2, label=shown, color=colour)
    right.set(ylabel="Dice", ylim=(0, 1))
    right.set_xticks(np.arange(13), [name.replace(" ", "\n") for name in ORGANS], fontsize=7)
    right.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
    canvas.savefig(figure, dpi=110)


def run(
    out: str, train: int = 160, test: int = 16, steps: int = 1200, seed: int = 0, threads: int = 1, figure: str = FIGURE
) -> None:
    """Make the phantoms, run the forests and the U-Net, and write out/gauges.json and the figure."""
    torch.set_num_threads(threads)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    cases = [generate_ct(seed, index, SHAPE, SPACING) for index in tqdm(range(train + test), desc="phantoms")]
    forests = {kind: forest_gauge(cases[:10], cases[train : train + 4], kind) for kind in LIMITS}
    record = {"forests": {kind: dice.tolist() for kind, dice in forests.items()}}
    (folder / "gauges.json").write_text(json.dumps(record))
    curve = train_unet(cases[:train], cases[train:], steps, folder)
    (folder / "gauges.json").write_text(json.dumps(record | {"curve": curve}))
    draw(out, figure)


if __name__ == "__main__":
    fire.Fire({"run": run, "draw": draw})
