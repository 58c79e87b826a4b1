"""What to watch in self pre-training besides the loss, which tells neither context nor collapse.

The gate: on the same crops and masks the masked loss must be below that of trivial predictors: the mean of the visible
neighbours, the training mean at that position, and flat patches, which an untrained network reaches. A collapse of the
representation shows in the root mean square and effective rank of each block's output, never in the loss.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.metrics.regression import compute_ssim_and_cs
from monai.utils import CommonKeys
from torch import Tensor

from .files import replacing
from .handlers import is_main_process
from .losses import MaskedPatchLoss
from .networks.mae import MaskedPretraining, Prediction
from .predictors import PositionMean, flat_patches, neighbour_mean

logger = logging.getLogger(__name__)

TRIVIAL = ("neighbour_mean_loss", "position_mean_loss", "flat_patch_loss")


def prepare_batch(
    batch: dict[str, Tensor], device: torch.device, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch of crops -> (image, target) on the device, for MONAI's trainers and evaluators.

    The target holds "image" and "valid", which is None where no crop was padded. That is seen before anything goes to
    the device, which would have to be waited for.
    """
    valid = batch.get("valid")
    padded = valid is not None and not bool(valid.all())
    image = batch["image"].to(device, non_blocking=non_blocking, **kwargs)
    return image, {"image": image, "valid": valid.to(device, non_blocking=non_blocking) if padded else None}


def effective_rank(tokens: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of centred tokens (N, D) (Roy and Vetterli 2007)."""
    spectrum = torch.linalg.svdvals((tokens - tokens.mean(dim=0)).float())
    share = spectrum / spectrum.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


@torch.no_grad()
def block_statistics(network: MaskedPretraining, image: Tensor, keep: Tensor, most: int = 1024) -> dict[str, float]:
    """Root mean square and effective rank of every encoder block's output, over at most `most` tokens."""
    numbers = {}
    for index, hidden in enumerate(network.mae.encode(image, keep)[1]):
        tokens = hidden[:, 1:].flatten(0, 1)[:most].float()
        numbers[f"rms_block_{index}"] = float(tokens.square().mean().sqrt())
        numbers[f"rank_block_{index}"] = effective_rank(tokens)
    return numbers


@torch.no_grad()
def image_quality(
    network: MaskedPretraining,
    target: dict[str, Tensor],
    prediction: Prediction,
    data_range: Sequence[float] = (0.0, 1.0),
    most: int = 2,
    window: int = 7,
) -> dict[str, float]:
    """PSNR in dB over hidden voxels, and SSIM averaged where its window is centred on one, for a range of intensities.

    Padding, where target["valid"] is False, does not count. SSIM is taken on the first `most` images of the batch, in
    a Gaussian window of `window` voxels, sigma 1.5.
    """
    low, high = data_range
    done = network.mae.reconstruct(target["image"], prediction)
    image, guess = ((volume.float() - low) / (high - low) for volume in (target["image"], done.image))
    hidden = (done.visible == 0).expand_as(image)
    if target["valid"] is not None:
        hidden = hidden & target["valid"]
    error = (guess - image)[hidden].square().mean().clamp_min(1e-12)
    axes = image.ndim - 2
    ssim = compute_ssim_and_cs(
        guess[:most].clamp(0, 1), image[:most], axes,
        kernel_size=[window] * axes, kernel_sigma=[1.5] * axes, data_range=1.0, kernel_type="gaussian",
    )[0]  # fmt: skip
    inner = (slice(None), slice(None), *[slice(window // 2, -(window // 2))] * axes)
    return {"masked_psnr": float(-10 * error.log10()), "masked_ssim": float(ssim[hidden[:most][inner]].mean())}


class PretrainingMonitor:
    """Measures a pre-training run as an ignite handler, on trainers and on evaluators.

    Every `interval` iterations it measures the batch just seen and writes one row to `path` (CSV): the masked loss, the
    losses of the trivial predictors on the same crops and masks, PSNR, SSIM, and the block statistics. The
    latest row is in `engine.state.metrics`; at the end the mean of the last `window` rows is logged, and whether the
    gate is passed. Both join the metrics: `gate_passed` (1 or 0), and the means under the columns' names where the
    `window` is all rows, else as `gate_<column>`.

    Args:
        loss: the pre-training loss.
        path: CSV file to write.
        interval: iterations between two measurements.
        window: rows that the gate is judged on; None for all.
        training_data: a loader of training crops for the position predictor; None learns from the batches it measures.
        data_range: lowest and highest intensity, in the units of the image, that PSNR and SSIM refer to.
    """

    def __init__(
        self,
        loss: MaskedPatchLoss,
        path: str | Path,
        interval: int = 1,
        window: int | None = 20,
        training_data: Any = None,
        data_range: Sequence[float] = (0.0, 1.0),
    ) -> None:
        self.loss, self.path, self.interval, self.window = loss, Path(path), interval, window
        self.training_data, self.data_range = training_data, data_range
        self.position_mean: PositionMean | None = None
        self.rows: list[dict[str, float]] = []
        self.passed = False

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or evaluator whose network is a `MaskedPretraining`."""
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.interval), self.measure)
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: self._write())
        engine.add_event_handler(Events.COMPLETED, self.conclude)

    def state_dict(self) -> dict[str, Any]:
        """What was measured so far, so that a resumed run goes on measuring."""
        mean = self.position_mean
        learnt = {} if mean is None else {"total": mean.total, "count": mean.count}
        return {"rows": self.rows, "position_mean": learnt}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.rows, learnt = list(state["rows"]), state["position_mean"]
        self.position_mean = PositionMean(**learnt) if learnt else None

    @torch.no_grad()
    def measure(self, engine: Engine) -> None:
        """Measure the batch that the engine has just seen."""
        network = getattr(engine.network, "module", engine.network)
        target, prediction = engine.state.output[CommonKeys.LABEL], engine.state.output[CommonKeys.PRED]
        row = {"iteration": engine.state.iteration, "masked_loss": float(self.loss(prediction, target))}
        row |= self._trivial(network, target, prediction.hidden)
        row |= image_quality(network, target, prediction, self.data_range)
        row |= block_statistics(network, target["image"], _complement(prediction.hidden, network))
        self.rows.append(row)
        engine.state.metrics.update(
            {key: value for key, value in row.items() if "block" not in key and "iter" not in key}
        )
        engine.state.metrics["lowest_rank"] = min(value for key, value in row.items() if key.startswith("rank_block"))
        self._judge(engine.state.iteration)

    def _trivial(self, network: MaskedPretraining, target: dict[str, Tensor], hidden: Tensor) -> dict[str, float]:
        """Masked losses on this batch of predictors that have learnt nothing of context."""
        truth, grid = self.loss.target(**target), network.mae.grid
        if self.position_mean is None:
            self.position_mean = PositionMean(torch.zeros(prod(grid), truth.shape[2], device=truth.device))
            for batch in self.training_data or []:
                self.position_mean.update(self.loss.target(**prepare_batch(batch, truth.device)[1]))
        self.position_mean.total = self.position_mean.total.to(truth.device)  # a resumed one comes from the CPU
        first = self.position_mean.count == 0  # without anything learnt it would be no predictor: learn this batch
        if first:
            self.position_mean.update(truth)
        position = Prediction(self.position_mean.predict(hidden), hidden)
        neighbour = Prediction(neighbour_mean(truth, hidden, grid), hidden)
        weight = None if target["valid"] is None else self.loss.weight(**target)
        flat = Prediction(flat_patches(truth, hidden, weight), hidden)
        if self.training_data is None and not first:
            self.position_mean.update(truth)
        predictions = zip(TRIVIAL, (neighbour, position, flat), strict=True)
        return {name: float(self.loss(prediction, target)) for name, prediction in predictions}

    def means(self) -> dict[str, float]:
        """Mean of the last `window` rows, column by column."""
        rows = self.rows[-self.window :] if self.window else self.rows
        return {key: sum(row[key] for row in rows) / len(rows) for key in rows[0] if key != "iteration"}

    def _judge(self, iteration: int) -> None:
        """Say once, plainly, when the gate is passed."""
        if self.passed or self.window is None or len(self.rows) < self.window:
            return
        mean = self.means()
        self.passed = passes_gate(mean)
        if self.passed:
            logger.info(f"gate passed at iteration {iteration}: {_sentence(mean)}")

    def conclude(self, engine: Engine) -> None:
        """Log the outcome."""
        if not self.rows or not is_main_process():
            return
        mean = self.means()
        self.passed = passes_gate(mean)
        logger.info(f"{'gate passed' if self.passed else 'gate NOT passed'}: {_sentence(mean)}")
        prefix = "gate_" if self.window else ""
        judged = {f"{prefix}{key}": value for key, value in mean.items() if "block" not in key}
        engine.state.metrics.update(judged | {"gate_passed": float(self.passed)})

    def _write(self) -> None:
        """All rows as CSV, complete at every moment."""
        if not self.rows or not is_main_process():
            return
        with replacing(self.path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)


def passes_gate(mean: dict[str, float]) -> bool:
    """Whether the masked autoencoder predicts hidden patches better than every trivial predictor."""
    return mean["masked_loss"] < min(mean[name] for name in TRIVIAL)


def _complement(hidden: Tensor, network: MaskedPretraining) -> Tensor:
    """The visible patches (B, K), ascending, when `hidden` (B, M) are not."""
    count = network.mae.decoder.pos_embed.shape[1]
    shown = torch.ones(hidden.shape[0], count, device=hidden.device).scatter(1, hidden, 0.0)
    return shown.argsort(dim=1, descending=True, stable=True)[:, : count - hidden.shape[1]]


def _sentence(mean: dict[str, float]) -> str:
    return (
        f"masked loss {mean['masked_loss']:.3f}; mean of visible neighbours {mean['neighbour_mean_loss']:.3f}, "
        f"mean at that position {mean['position_mean_loss']:.3f}, flat patch {mean['flat_patch_loss']:.3f}; "
        f"PSNR {mean['masked_psnr']:.1f} dB, SSIM {mean['masked_ssim']:.3f}"
    )
