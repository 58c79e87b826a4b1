"""The report of a classification of findings: AUC with intervals over patients, average precision and calibration."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.metrics import ROCAUCMetric, compute_average_precision
from torch import Tensor

from .auc import bootstrap_aucs, calibration_error, interval, roc_auc
from .errors import DivergedError, InputError
from .files import case_names, read_json, write_csv
from .handlers import is_main_process
from .pictures_2d import draw_roc

logger = logging.getLogger(__name__)

LEAST_POSITIVES = 10

Scored = dict[str, tuple[str, np.ndarray, np.ndarray]]  # file -> patient, probabilities (K,), labels (K,)


class Summary(NamedTuple):
    """A line of summary.csv. in_mean: whether the finding has enough positives and negatives to count."""

    finding: str
    positives: int
    images: int
    auc: float
    ci_low: float
    ci_high: float
    average_precision: float
    prevalence: float
    calibration_error: float
    in_mean: bool


class MeanAUC(ROCAUCMetric):
    """Mean AUC of predictions and labels (B, K), to choose a checkpoint by.

    Findings with fewer than `least_positives` positives, or negatives, are left out, unless all are; then those with
    at least one of each count.
    """

    def __init__(self, least_positives: int = LEAST_POSITIVES) -> None:
        super().__init__()
        self.least_positives = least_positives

    def aggregate(self, average: Any = None) -> float:
        """The mean over everything seen since `reset`, on all processes.

        Raises:
            InputError: predictions are NaN, or no finding has a positive and a negative.
        """
        scores, truth = (np.asarray(part.cpu()) for part in self.get_buffer())
        check_finite(scores)
        aucs = np.array([roc_auc(truth[:, k], scores[:, k])[0] for k in range(truth.shape[1])])
        counts = np.minimum(truth.sum(axis=0), (1 - truth).sum(axis=0))
        chosen = aucs[counts >= self.least_positives] if (counts >= self.least_positives).any() else aucs
        if np.isnan(chosen).all():
            raise InputError(
                f"none of the findings is both present and absent in the {len(truth)} validation images; raise "
                "validation_fraction"
            )
        return float(np.nanmean(chosen))


def check_finite(scores: np.ndarray) -> None:
    """DivergedError for predictions (N, K) that cannot be ranked."""
    bad = int((~np.isfinite(scores)).any(axis=1).sum())
    if bad:
        raise DivergedError(
            f"the predictions of {bad} of {len(scores)} images are NaN or infinite; use a checkpoint from before "
            "training diverged, or lower the learning rate"
        )


class FindingsReport:
    """Ignite handler: per_image.csv, summary.csv and roc.png of an evaluation, and a table in the log.

    Findings with fewer than `least_positives` positives, or negatives, are reported but left out of the mean, and the
    log names them. Intervals are 95 %, over patients: all images of one are drawn together. The metrics of the
    engine's state are `auc_mean`, `average_precision_mean` and `calibration_error_mean`.

    Args:
        output_dir: made when missing; its files are complete or absent.
        class_names: the findings, in the order of the channels.
        pred_key, label_key: probabilities and labels (K,) of an item.
        least_positives: needed for a finding to count.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        pred_key: str = "pred",
        label_key: str = "label",
        least_positives: int = LEAST_POSITIVES,
    ) -> None:
        self.output_dir, self.class_names = Path(output_dir), list(class_names)
        self.keys = (pred_key, label_key)
        self.least_positives = least_positives
        self._scored: Scored = {}

    def attach(self, engine: Engine) -> None:
        """Collect after every iteration, report at the end."""
        engine.add_event_handler(Events.STARTED, lambda _: self._scored.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _collect(self, engine: Engine) -> None:
        for loaded, produced in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**loaded, **produced}
            values = [plain(item[key]) for key in self.keys]
            self._scored[item["source"]] = (item["patient"], *values)

    def _report(self, engine: Engine) -> None:
        scored = gather(self._scored)
        if not is_main_process():
            return
        patients, scores, truth = zip(*scored.values(), strict=True)
        scores, truth = np.stack(scores), np.stack(truth)
        check_finite(scores)
        summary = summarise(scores, truth, patients, self.class_names, self.least_positives)
        for name in ("auc", "average_precision", "calibration_error"):
            engine.state.metrics[f"{name}_mean"] = getattr(summary[-1], name)
        header = ["image", "patient", *self.class_names, *(f"{name} (label)" for name in self.class_names)]
        names = case_names(scored)
        columns = zip((names[path] for path in scored), patients, scores, truth, strict=True)
        rows = [[name, patient, *map(float, p), *map(int, t)] for name, patient, p, t in columns]
        write_csv(self.output_dir / "per_image.csv", header, rows)
        write_csv(self.output_dir / "summary.csv", Summary._fields, summary)
        draw_roc(truth, scores, self.class_names, self.output_dir / "roc.png")
        logger.info(table(summary, len(scored), len(set(patients))))


def plain(value: Tensor) -> np.ndarray:
    """A tensor (K,) in numpy, in double precision."""
    return np.asarray(value.detach().cpu().double())


def gather(scored: Scored) -> Scored:
    """The images of all ranks; one that a sampler handed out twice counts once."""
    if not (dist.is_available() and dist.is_initialized()):
        return scored
    parts: list[Scored] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, scored)
    return dict(sorted((name, values) for part in parts for name, values in part.items()))


def summarise(
    scores: np.ndarray, truth: np.ndarray, patients: Sequence[str], class_names: Sequence[str], least_positives: int
) -> list[Summary]:
    """A line for each finding and, last, for the mean of those that count; scores and truth are (N, K)."""
    replicates = bootstrap_aucs(truth, scores, patients)
    rows = []
    for k, name in enumerate(class_names):
        positives = int(truth[:, k].sum())
        counts = least_positives <= positives <= len(truth) - least_positives
        precision = average_precision(truth[:, k], scores[:, k])
        error = calibration_error(truth[:, k], scores[:, k])
        area, limits = float(roc_auc(truth[:, k], scores[:, k])[0]), interval(replicates[:, k])
        rows.append(Summary(name, positives, len(truth), area, *limits, precision, truth[:, k].mean(), error, counts))
    return [*rows, mean_of(rows, replicates)]


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean precision over the positives, whose chance level is the prevalence; NaN without one."""
    if not truth.any():
        return float("nan")
    return float(compute_average_precision(torch.from_numpy(scores), torch.from_numpy(truth)))


def mean_of(rows: Sequence[Summary], replicates: np.ndarray) -> Summary:
    """The mean over the findings that count; NaN where none does."""
    counted = [k for k, row in enumerate(rows) if row.in_mean]
    members = [rows[k] for k in counted]

    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in members])) if members else float("nan")

    means = np.full(len(replicates), np.nan)
    drawn = replicates[:, counted]
    complete = ~np.isnan(drawn).all(axis=1) if members else np.zeros(len(drawn), bool)
    means[complete] = np.nanmean(drawn[complete], axis=1)
    measures = [mean(name) for name in ("average_precision", "prevalence", "calibration_error")]
    totals = (sum(row.positives for row in members), rows[0].images)
    name, limits = f"mean of {len(members)}", interval(means)
    return Summary(name, *totals, mean("auc"), *limits, *measures, in_mean=bool(members))


def table(summary: Sequence[Summary], images: int, patients: int) -> str:
    """The report for the log."""
    lines = [f"{images} images of {patients} patients; AUC [95 % bootstrap interval over patients]"]
    for row in summary if summary[-1].in_mean else summary[:-1]:
        text = f"  {row.finding:<20}{row.auc:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        lines.append(
            f"{text}  AP {row.average_precision:.3f}  ECE {row.calibration_error:.3f}  {row.positives} positive"
        )
    left_out = [row.finding for row in summary[:-1] if not row.in_mean]
    if not summary[-1].in_mean:
        lines.append("  no finding has enough positives and negatives for a mean; evaluate more patients")
    elif left_out:
        lines.append(f"  left out of the mean, too few positives or negatives: {', '.join(left_out)}")
    return "\n".join(lines)


class FindingsTable:
    """Ignite handler: at the end, predictions.csv of all `<case>_findings.json` in a folder, sorted by case."""

    def __init__(self, output_dir: str | Path, class_names: Sequence[str]) -> None:
        self.output_dir, self.class_names = Path(output_dir), list(class_names)

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        files = sorted(self.output_dir.glob("*_findings.json"))
        contents = [read_json(file) for file in files]
        rows = [[c["image"], *(c["probabilities"].get(name, "") for name in self.class_names)] for c in contents]
        write_csv(self.output_dir / "predictions.csv", ["image", *self.class_names], rows)
        logger.info(f"{len(rows)} images in {self.output_dir / 'predictions.csv'}")
