"""Readers of chest X-ray phantoms: two that must do poorly, and a small network that must not.

The controls are logistic regressions on the distribution of brightness and on a thumbnail; the ceiling is what the
false reports leave to a reader who knows what was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from tqdm import tqdm

from custom.auc import roc_auc
from custom.data.nih import FINDINGS
from custom.data.phantoms.cxr import render
from custom.data.phantoms.cxr_cases import Patient, Visit

THUMBNAIL = 16  # pixels
COMPONENTS = 16  # of thumbnails
LIMITS = {"brightness": 0.65, "thumbnail": 0.70}  # macro AUC of the controls, at most
READABLE = 0.75  # macro AUC of the small network, at least: a phantom that nothing can read teaches nothing
BATCH = 32


@dataclass(frozen=True)
class Readings:
    """Images (N, H, W) uint8 of some patients, what is reported (N, 14) and the liabilities behind it (N, 14)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    liabilities: NDArray[np.float64]


def readings(seed: int, patients: range, shape: tuple[int, int]) -> Readings:
    """All images of some patients of a population."""
    people = [Patient(seed, index) for index in patients]
    visits = [Visit(person, number) for person in people for number in range(person.images)]
    images = [render(visit, shape) for visit in tqdm(visits, desc="phantoms", unit="image", disable=None)]
    labels = [[name in visit.reported for name in FINDINGS] for visit in visits]
    liabilities = [list(visit.liabilities.values()) for visit in visits]
    return Readings(np.stack(images), np.array(labels, np.float32), np.array(liabilities))


def scored(truth: NDArray, scores: NDArray) -> NDArray:
    """AUC (14,) of every finding, NaN where the test images have none."""
    return np.array([roc_auc(truth[:, row], scores[:, row])[0] for row in range(truth.shape[1])])


def brightness(images: NDArray) -> NDArray:
    """A histogram of 16 bins, mean and standard deviation (N, 18) of every image."""
    counts = [np.bincount(image.ravel() // 16, minlength=16) / image.size for image in images]
    return np.column_stack([counts, images.mean((1, 2)), images.std((1, 2))])


def thumbnails(images: NDArray) -> NDArray:
    """The images as 16 x 16 means (N, 256); their sides must be multiples of 16."""
    n, height, width = images.shape
    blocks = images.reshape(n, THUMBNAIL, height // THUMBNAIL, THUMBNAIL, width // THUMBNAIL)
    return blocks.mean((2, 4)).reshape(n, -1)


def control(train: Readings, test: Readings, kind: str) -> NDArray:
    """AUC (14,) of a logistic regression on `brightness`, or on 16 principal components of `thumbnails`."""
    features = {"brightness": brightness, "thumbnail": thumbnails}[kind]
    steps = [StandardScaler(), PCA(COMPONENTS), StandardScaler()] if kind == "thumbnail" else [StandardScaler()]
    scores = np.zeros(test.labels.shape)
    for row, labels in enumerate(train.labels.T):
        if labels.any():
            reader = make_pipeline(*steps, LogisticRegression(C=0.1, max_iter=1000))
            scores[:, row] = reader.fit(features(train.images), labels).decision_function(features(test.images))
    return scored(test.labels, scores)


def ceiling(test: Readings) -> NDArray:
    """AUC (14,) of the liabilities themselves: only the false reports stand between them and the labels."""
    return scored(test.labels, test.liabilities)


def small_network(width: int = 24) -> nn.Sequential:
    """Four halvings with two convolutions each, and the mean and the largest value of what is left."""
    layers: list[nn.Module] = []
    channels = 1
    for wide in (width, 2 * width, 4 * width, 4 * width):
        for number in range(2):
            layers += [nn.Conv2d(channels, wide, 3, 1 + number, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
    return nn.Sequential(*layers, MeanAndMax(), nn.Dropout(0.2), nn.Linear(2 * channels, len(FINDINGS)))


class MeanAndMax(nn.Module):
    """(B, C, H, W) -> (B, 2 C)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)


def batches(data: Readings, rng: np.random.Generator, margin: int = 4) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order; every batch is shifted by up to `margin` pixels and changed in contrast."""
    for rows in np.array_split(rng.permutation(len(data.images)), len(data.images) // BATCH):
        images = as_input(data.images[rows])
        images = nn.functional.pad(images, [margin] * 4, mode="replicate")
        top, left = rng.integers(0, 2 * margin + 1, 2)
        height, width = data.images.shape[1:]
        gain = torch.from_numpy(rng.uniform(0.85, 1.15, (len(rows), 1, 1, 1)).astype(np.float32))
        yield gain * images[:, :, top : top + height, left : left + width], torch.from_numpy(data.labels[rows])


def as_input(images: NDArray) -> Tensor:
    """(N, H, W) uint8 to (N, 1, H, W), about -2 to 2."""
    return torch.from_numpy(images[:, None].astype(np.float32)) / 64 - 2


def train_network(train: Readings, test: Readings, epochs: int) -> list[dict]:
    """Train for `epochs` and list epoch, loss and the AUC (14,) on `test` of each."""
    torch.manual_seed(0)
    rng, network = np.random.default_rng(0), small_network()
    with torch.no_grad():
        network[-1].bias.copy_(torch.logit(torch.from_numpy(train.labels).mean(0).clamp(0.005)))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    steps = epochs * (len(train.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.2)
    curve = []
    for epoch in tqdm(range(1, epochs + 1), desc="network", unit="epoch", disable=None):
        losses = []
        for images, labels in batches(train, rng):
            loss = nn.functional.binary_cross_entropy_with_logits(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        auc = scored(test.labels, predict(network, test.images))
        curve.append({"epoch": epoch, "loss": float(np.mean(losses)), "auc": auc.tolist()})
    return curve


@torch.no_grad()
def predict(network: nn.Module, images: NDArray) -> NDArray:
    """Logits (N, 14)."""
    network.eval()
    logits = torch.cat([network(as_input(part)) for part in np.array_split(images, len(images) // 128 + 1)])
    network.train()
    return logits.numpy()
