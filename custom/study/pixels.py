"""What pixels tell without any network: a control that every network has to beat before its score means anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from torch import Tensor, nn
from torch.nn import functional

from ..data import CropDataset
from ..probe import fit_linear

THUMBNAIL, COMPONENTS = 16, 16
TREES, VOXELS = 40, 200_000  # of the forest; voxels it learns from, of all cases together
CHUNK = 1 << 20  # voxels predicted at once


class ThumbnailClassifier(nn.Module):
    """Logistic regression on principal components of small copies of images: (B, C, H, W) -> logits (B, K)."""

    def __init__(self, mean: Tensor, components: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("components", components), ("weight", weight), ("bias", bias)):
            self.register_buffer(name, value)

    def forward(self, image: Tensor) -> Tensor:
        """Reduce, project and weigh."""
        return (thumbnails(image) - self.mean) @ self.components @ self.weight.T + self.bias


def thumbnails(image: Tensor) -> Tensor:
    """(B, C, H, W) -> mean over channels, reduced to 16 x 16, as vectors (B, 256)."""
    return functional.adaptive_avg_pool2d(image.float().mean(dim=1, keepdim=True), THUMBNAIL).flatten(1)


def fit_thumbnails(batches: Iterable[Mapping[str, Any]]) -> ThumbnailClassifier:
    """Fit to batches {"image" (B, C, H, W), "label" (B, K)}."""
    pairs = [(thumbnails(torch.as_tensor(batch["image"])), batch["label"].float()) for batch in batches]
    images, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    mean = images.mean(dim=0)
    components = torch.linalg.svd(images - mean, full_matrices=False)[2][:COMPONENTS].T
    weight, bias = fit_linear((images - mean) @ components, labels)
    return ThumbnailClassifier(mean, components, weight, bias)


class VoxelForest(nn.Module):
    """A random forest on the intensities around a voxel and its place: (1, C, H, W, D) -> logits (1, K, H, W, D)."""

    def __init__(self, forest: Any, table: NDArray[np.bool_]) -> None:
        """table: of each number that the forest tells apart, which of the K outputs are on."""
        super().__init__()
        self.forest, self.table = forest, table

    def forward(self, image: Tensor) -> Tensor:
        """The class of each voxel, as logits of +1 and -1."""
        array = image[0].float().cpu().numpy()
        features = voxel_features(array).reshape(-1, 7 * len(array) + 3)
        parts = [self.forest.predict(features[first : first + CHUNK]) for first in range(0, len(features), CHUNK)]
        codes = np.concatenate(parts)
        logits = torch.from_numpy(np.where(self.table[codes], 1.0, -1.0).astype(np.float32))
        return logits.T.reshape(1, -1, *array.shape[1:]).to(image.device)


def fit_forest(dataset: CropDataset, num_classes: int, seed: int = 0) -> VoxelForest:
    """Fit to cached volumes with labels.

    Args:
        dataset: the labelled training cases.
        num_classes: output channels: classes with background, or overlapping regions, as the label has channels.
        seed: of the voxels and the trees.
    """
    from sklearn.ensemble import RandomForestClassifier  # which bundles do without; `checks` asks for it

    rng, parts = np.random.default_rng(seed), []
    for item in dataset.data:
        volume = dataset.cache.open(item)
        image, codes = np.asarray(volume.image, dtype=np.float32), label_codes(volume.label)
        chosen, weight = draw_voxels(codes.ravel(), VOXELS // len(dataset.data), rng)
        parts.append((voxel_features(image).reshape(codes.size, -1)[chosen], codes.ravel()[chosen], weight))
    inputs, targets, weights = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    threads = torch.get_num_threads()
    forest = RandomForestClassifier(TREES, min_samples_leaf=3, n_jobs=threads, random_state=seed)
    forest.fit(inputs, targets, sample_weight=weights)
    return VoxelForest(forest, outputs_of_codes(len(dataset.cache.open(dataset.data[0]).label), num_classes))


def draw_voxels(codes: NDArray, count: int, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """About `count` positions, as many of each class as it has to give, and how many voxels each stands for."""
    positions, weights = [], []
    present = np.unique(codes)
    for code in present:
        members = np.flatnonzero(codes == code)
        drawn = rng.choice(members, min(len(members), max(1, count // len(present))), replace=False)
        positions.append(drawn)
        weights.append(np.full(len(drawn), len(members) / len(drawn)))
    return np.concatenate(positions), np.concatenate(weights)


def label_codes(label: NDArray) -> NDArray[np.int64]:
    """(K, H, W, D) -> one number a voxel: the class, or of overlapping regions which of them it is in."""
    label = np.asarray(label, dtype=np.int64)
    return label[0] if len(label) == 1 else (label << np.arange(len(label)).reshape(-1, 1, 1, 1)).sum(axis=0)


def outputs_of_codes(channels: int, num_classes: int) -> NDArray[np.bool_]:
    """Which outputs are on (codes, K) for each of `label_codes`: classes share a channel, a region has its own."""
    if channels != num_classes:
        return np.eye(num_classes, dtype=bool)
    return (np.arange(2**num_classes)[:, None] >> np.arange(num_classes)) % 2 == 1


def voxel_features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of (C, H, W, D): intensities, and the place in the volume from 0 to 1 along each axis: (H, W, D, 7 C + 3)."""
    places = np.meshgrid(*(np.linspace(0, 1, n, dtype=np.float32) for n in image.shape[1:]), indexing="ij")
    return np.concatenate([intensity_features(image), np.stack(places, axis=-1)], axis=-1)


def intensity_features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of (C, H, W, D): the voxel, and mean and standard deviation over cubes of 3, 5 and 9: (H, W, D, 7 C)."""
    features = list(image)
    for channel in image:
        for size in (3, 5, 9):
            mean = uniform_filter(channel, size)
            spread = np.sqrt(np.clip(uniform_filter(channel**2, size) - mean**2, 0, None))
            features += [mean, spread]
    return np.stack(features, axis=-1)
