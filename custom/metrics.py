"""The report of a segmentation evaluation: Dice and HD95 per organ and case, in native space and as published."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from nibabel.affines import voxel_sizes
from torch import Tensor

from .errors import InputError
from .files import case_names, case_path, write_csv
from .scores import (
    BRATS_DICE,
    BRATS_HD95,
    PUBLISHED_DICE,
    PUBLISHED_HD95,
    bootstrap_interval,
    dice_per_class,
    hd95_per_class,
)

logger = logging.getLogger(__name__)

DICE_NATIVE, HD95_NATIVE = "dice_native", "hd95_mm_native"
DICE_RESAMPLED, HD95_RESAMPLED = "dice_resampled", "hd95_voxel_resampled"
DICE_OF = {HD95_NATIVE: DICE_NATIVE, HD95_RESAMPLED: DICE_RESAMPLED}
METRICS = (DICE_NATIVE, HD95_NATIVE, DICE_RESAMPLED, HD95_RESAMPLED)

Scores = dict[str, dict[str, np.ndarray]]  # file -> metric -> (number of organs,)


class Summary(NamedTuple):
    """A line of summary.csv. cases: those with a value; undefined: organs present in the reference yet missed."""

    metric: str
    organ: str
    mean: float
    ci_low: float
    ci_high: float
    cases: int
    undefined: int


class SegmentationReport:
    """Ignite handler: per_case.csv and summary.csv of an evaluation, a short table in the log, means in the metrics.

    Every figure is named for what it is. `dice_native` and `hd95_mm_native` compare label maps on the grid of the input
    file; `dice_resampled` and `hd95_voxel_resampled` repeat what the publication reports (resampled grid, distance in
    voxels). A mean is taken over the organs of a case, then over cases, ignoring organs absent from the reference.
    In the tables an empty cell is an undefined value: an absent organ has neither figure, a missed one Dice 0 and no
    HD95. The metrics of the engine's state are `<metric>_mean` and `<metric>_mean_published`.

    Args:
        output_dir: made when missing; its tables are complete or absent.
        class_names: names of the classes 1, 2, ..., background left out.
        published_classes: 0-based indices into `class_names` of the published average; empty for none.
        pred_key, label_key: label maps (1, h, w, d) on the resampled grid, or a binary channel for each class, which
            may overlap; None leaves those figures out.
        native_pred_key, native_label_key: the same on the grid of the file, MetaTensors (their affine gives the voxel
            size); None leaves those figures out.
        image_key: names the case by its file.
        num_classes: with background; checked against class_names where given.
        empty_is_scored: in native space, score a class that is absent from the reference as BraTS does (Dice 1 and HD95
            0 if the prediction agrees, else 0 and 373.13 mm, which a missed class gets too), instead of leaving it out.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        published_classes: Sequence[int] = (),
        pred_key: str | None = "pred",
        label_key: str = "label",
        native_pred_key: str | None = "native_pred",
        native_label_key: str = "native_label",
        image_key: str = "image",
        num_classes: int | None = None,
        empty_is_scored: bool = False,
    ) -> None:
        if num_classes is not None and len(class_names) != num_classes - 1:
            raise InputError(
                f"{len(class_names)} class_names do not fit {num_classes} classes with background; "
                f"name all {num_classes - 1}, and set published_classes, [] for none"
            )
        if published_classes and max(published_classes) >= len(class_names):
            raise InputError(
                f"published_classes {list(published_classes)} go beyond the {len(class_names)} class_names"
            )
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.published_classes = list(published_classes)
        self.resampled = None if pred_key is None else (pred_key, label_key)
        self.native = None if native_pred_key is None else (native_pred_key, native_label_key)
        self.image_key = image_key
        self.empty = (BRATS_DICE, BRATS_HD95) if empty_is_scored else (PUBLISHED_DICE, PUBLISHED_HD95)
        self._scores: dict[str, dict[str, np.ndarray]] = {}

    def attach(self, engine: Engine) -> None:
        """Score after every iteration, report at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._score_batch)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, _: Engine) -> None:
        self._scores = {}

    def _score_batch(self, engine: Engine) -> None:
        # MONAI's postprocessing leaves keys that were loaded in the batch and puts new ones into the output
        for loaded, produced in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**loaded, **produced}
            self._scores[case_path(item, self.image_key)] = self._score(item)

    def _score(self, item: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Arrays (number of organs,) by metric."""
        count = len(self.class_names) + 1
        scores = {}
        if self.native is not None:
            pred, label = (_value(item, key) for key in self.native)
            if not isinstance(label, MetaTensor):
                raise InputError(
                    f"'{self.native[1]}' has no affine, so distances in mm cannot be given; keep its metadata"
                )
            spacing = voxel_sizes(label.affine.numpy()).tolist()
            scores[DICE_NATIVE] = dice_per_class(pred, label, count, self.empty[0])
            scores[HD95_NATIVE] = hd95_per_class(pred, label, count, spacing, self.empty[1])
        if self.resampled is not None:
            pred, label = (_value(item, key) for key in self.resampled)
            scores[DICE_RESAMPLED] = dice_per_class(pred, label, count)
            scores[HD95_RESAMPLED] = hd95_per_class(pred, label, count)
        return scores

    def _report(self, engine: Engine) -> None:
        scores = _gather(self._scores)
        summary = summarise(scores, self.class_names, self.published_classes)
        for row in summary:
            if row.organ == mean_name(self.class_names):
                engine.state.metrics[f"{row.metric}_mean"] = row.mean
            elif row.organ == published_name(self.published_classes):
                engine.state.metrics[f"{row.metric}_mean_published"] = row.mean
        if dist.is_available() and dist.is_initialized() and dist.get_rank() != 0:
            return
        per_case = _case_rows(scores, self.class_names)
        write_csv(self.output_dir / "per_case.csv", ("case", "organ", *METRICS), per_case)
        write_csv(self.output_dir / "summary.csv", Summary._fields, summary)
        logger.info(_table(summary, len(scores)))


def mean_name(classes: Sequence[Any]) -> str:
    """How the tables call the mean over all organs."""
    return f"mean of {len(classes)}"


def published_name(classes: Sequence[int]) -> str:
    """How the tables call the mean over the organs of the published average."""
    return f"mean of {len(classes)} (published set)"


def summarise(scores: Scores, class_names: Sequence[str], published_classes: Sequence[int] = ()) -> list[Summary]:
    """Mean and 95 % bootstrap interval over cases: each organ, all organs, the published set; one block a metric."""
    count = len(class_names)
    groups = {name: [index] for index, name in enumerate(class_names)}
    groups[mean_name(class_names)] = list(range(count))
    if published_classes:
        groups[published_name(published_classes)] = list(published_classes)
    rows = []
    for metric in METRICS:
        if not all(metric in case for case in scores.values()):
            continue
        values = np.array([case[metric] for case in scores.values()]).reshape(-1, count)
        reference = np.array([case[DICE_OF.get(metric, metric)] for case in scores.values()]).reshape(-1, count)
        undefined = np.isnan(values) & ~np.isnan(reference)
        for name, members in groups.items():
            means = _mean_of_present(values[:, members])
            interval = bootstrap_interval(means)
            rows.append(
                Summary(metric, name, *interval, int((~np.isnan(means)).sum()), int(undefined[:, members].sum()))
            )
    return rows


def _mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean over organs (cases, organs) -> (cases,), NaN ignored; NaN where a case has none, without numpy's warning."""
    present = ~np.isnan(values)
    counts = present.sum(axis=1)
    return np.where(counts > 0, np.where(present, values, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _gather(scores: Scores) -> Scores:
    """The cases of all ranks; a case that a sampler handed out twice to pad the last batch counts once."""
    if not (dist.is_available() and dist.is_initialized()):
        return scores
    parts: list[Scores] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, scores)
    merged = {path: values for part in parts for path, values in part.items()}
    return {path: merged[path] for path in sorted(merged)}


def _case_rows(scores: Scores, class_names: Sequence[str]) -> list[list[Any]]:
    """Rows of per_case.csv."""
    names, rows = case_names(scores), []
    for path, values in scores.items():
        for index, organ in enumerate(class_names):
            rows.append(
                [names[path], organ, *(values[metric][index] if metric in values else np.nan for metric in METRICS)]
            )
    return rows


def _table(summary: Sequence[Summary], cases: int) -> str:
    lines = [f"{cases} cases; mean [95 % bootstrap interval over cases]"]
    few = len({row.organ for row in summary}) <= 5  # more classes are in the tables alone
    for row in summary:
        if few or row.organ.startswith("mean of"):
            interval = "" if np.isnan(row.ci_low) else f"[{row.ci_low:.3f}, {row.ci_high:.3f}]"
            lines.append(f"  {row.metric:<22}{row.organ:<28}{row.mean:<9.3f}{interval:<20}undefined {row.undefined}")
    return "\n".join(lines)


def _value(item: Mapping[str, Any], key: str) -> Tensor:
    if key not in item:
        raise InputError(
            f"the evaluation report found no '{key}' among {sorted(map(str, item))}; add it in postprocessing"
        )
    return item[key]
