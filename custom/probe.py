"""What frozen features know of the findings: logistic regression on the class token, the encoder left as it is."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import Tensor
from torch.nn import functional

from .auc import roc_auc
from .errors import InputError
from .files import write_csv
from .handlers import is_main_process
from .inferers import has_bfloat16
from .networks import ViT, ViTClassifier

logger = logging.getLogger(__name__)

PENALTY = 0.1  # on squared weights of standardised features
ITERATIONS = 200


@torch.no_grad()
def class_tokens(encoder: ViT, batches: Iterable[Mapping[str, Any]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised class tokens (N, D) and labels (N, K) of all batches, on the CPU, the network in evaluation mode."""
    was_training = encoder.training
    encoder.eval()
    tokens, labels = [], []
    for batch in batches:
        if "label" not in batch:
            raise InputError("a linear probe needs labels; set dataset_dir to images with Data_Entry_2017.csv")
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device)):
            tokens.append(encoder.encode(batch["image"].to(device))[0][:, 0].float().cpu())
        labels.append(batch["label"].float())
    encoder.train(was_training)
    return torch.cat(tokens), torch.cat(labels)


def fit_linear(features: Tensor, labels: Tensor, penalty: float = PENALTY) -> tuple[Tensor, Tensor]:
    """Logistic regression of labels (N, K) on features (N, D) -> weight (K, D), bias (K,).

    Features are standardised for the fit, and the scaling is folded into the result. The loss, convex, is the sum over
    findings of the mean binary cross entropy plus `penalty` / 2 times the squared weights.
    """
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    scaled = ((features - mean) / spread).double()
    weight = torch.zeros(labels.shape[1], features.shape[1], dtype=torch.double, requires_grad=True)
    bias = torch.zeros(labels.shape[1], dtype=torch.double, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(scaled @ weight.T + bias, labels.double())
        loss = loss * labels.shape[1] + penalty / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    folded = weight.detach() / spread
    return folded.float(), (bias.detach() - folded @ mean.double()).float()


def fit_head(
    network: ViTClassifier, batches: Iterable[Mapping[str, Any]], device: torch.device, penalty: float = PENALTY
) -> ViTClassifier:
    """Replace the head by a logistic regression on the class tokens of `batches`; the rest stays. Returns the network.

    On findings without a positive the head answers with what it must: their rarity.
    """
    features, labels = class_tokens(network, batches, device)
    weight, bias = fit_linear(features, labels, penalty)
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)
    logger.info(f"linear probe: head fitted on {len(features)} frozen class tokens")
    return network


class LinearProbe:
    """Ignite handler: how well a linear probe of the encoder tells findings apart, before and during pre-training.

    It uses labels to measure, never to train: the encoder does not see them. Before the first epoch (the random
    encoder), every `interval` epochs and at the end it fits on `training` batches, and writes the AUC of each finding
    on `validation` batches, and their mean over those with positives and negatives, as a row of `path`.

    Args:
        encoder: the encoder that is pre-trained.
        training, validation: loaders of images with labels, without augmentation.
        path: CSV file.
        class_names: the findings.
        interval: epochs between two probes; 0 for none at all.
        penalty: see `fit_linear`.
    """

    def __init__(
        self,
        encoder: ViT,
        training: Iterable[Mapping[str, Any]],
        validation: Iterable[Mapping[str, Any]],
        path: str | Path,
        class_names: Sequence[str],
        interval: int = 10,
        penalty: float = PENALTY,
    ) -> None:
        self.encoder, self.training, self.validation = encoder, training, validation
        self.path, self.class_names = Path(path), list(class_names)
        self.interval, self.penalty = interval, penalty

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        if self.interval and is_main_process():
            engine.add_event_handler(Events.STARTED, self)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        epoch = engine.state.epoch
        if epoch % self.interval and epoch != engine.state.max_epochs:
            return
        rows = self._earlier(epoch)
        # A loader draws a seed; training shall not depend on when it was probed.
        with torch.random.fork_rng(devices=[]):
            aucs = self.measure(next(self.encoder.parameters()).device)
        mean = float(np.nanmean(aucs)) if not np.isnan(aucs).all() else float("nan")
        write_csv(self.path, ["epoch", "mean", *self.class_names], [*rows, [epoch, mean, *map(float, aucs)]])
        engine.state.metrics["probe_auc"] = mean
        logger.info(
            f"linear probe after epoch {epoch}: mean AUC {mean:.3f} over {int((~np.isnan(aucs)).sum())} findings"
        )

    def measure(self, device: torch.device) -> np.ndarray:
        """AUC of each finding (K,), NaN where validation lacks positives or negatives."""
        weight, bias = fit_linear(*class_tokens(self.encoder, self.training, device), self.penalty)
        features, labels = class_tokens(self.encoder, self.validation, device)
        scores, truth = np.asarray(features @ weight.T + bias), np.asarray(labels)
        return np.array([roc_auc(truth[:, k], scores[:, k])[0] for k in range(truth.shape[1])])

    def _earlier(self, epoch: int) -> list[list[str]]:
        """What this run, before it was resumed, wrote about earlier epochs."""
        if epoch == 0 or not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [row for row in list(csv.reader(file))[1:] if int(row[0]) < epoch]
