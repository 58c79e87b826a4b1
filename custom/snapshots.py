"""Ignite handlers that leave one picture of a run in its folder: what the network made of the last thing it saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.metrics import CumulativeIterationMetric
from monai.utils import CommonKeys
from torch import Tensor

from .files import case_name, case_path
from .handlers import is_main_process
from .pictures import draw_overlay, draw_reconstruction, to_ras
from .pictures_2d import draw_masked_image, draw_roc


class Snapshot:
    """Draws to `path` (PNG, complete or absent) at the end of an engine's run, on the main process."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, or with an evaluator, whose every run then replaces the picture."""
        if is_main_process():
            engine.add_event_handler(Events.COMPLETED, self.draw_if_seen)

    def draw_if_seen(self, engine: Engine) -> None:
        """Draw, unless the run saw nothing: a finished one was resumed."""
        if engine.state.output is not None:
            self(engine)


class ReconstructionSnapshot(Snapshot):
    """Input, masked input and reconstruction of the first item of the last batch of a `MaskedPretraining`.

    Args:
        path: PNG to write.
        spacing: voxel size in mm of 3D crops, whose axes run to the right, anterior and superior; a training crop may
            be flipped. The first channel is drawn.
    """

    def __init__(self, path: str | Path, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        super().__init__(path)
        self.spacing = spacing

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        network = getattr(engine.network, "module", engine.network)
        image = engine.state.output[CommonKeys.LABEL]["image"]
        done = network.mae.reconstruct(image, engine.state.output[CommonKeys.PRED])
        shown, visible, guess = (_plain(volume[0, 0]) for volume in (image, done.visible, done.image))
        if shown.ndim == 2:
            draw_masked_image(shown, visible < 0.5, guess, self.path)
        else:
            draw_reconstruction(shown, visible < 0.5, guess, self.spacing, self.path)


class SegmentationSnapshot(Snapshot):
    """Prediction above reference over the image, of the last case of an evaluator with decollated output.

    Args:
        path: PNG to write.
        names: of the labels 1, 2, ... of a label map (1, h, w, d), or of the channels of regions (C, h, w, d); what has
            none is shown by its number.
        background: intensity of voxels that are drawn black; None for CT, 0 for normalised MR.
    """

    def __init__(self, path: str | Path, names: Sequence[str] = (), background: float | None = None) -> None:
        super().__init__(path)
        self.names, self.background = dict(enumerate(names, 1)), background

    def __call__(self, engine: Engine) -> None:
        item = {**engine.state.batch[-1], **engine.state.output[-1]}
        affine = np.asarray(item["image"].affine)
        image, spacing = to_ras(_plain(item["image"][0]), affine)
        image = image if self.background is None else np.where(image == self.background, image.min(), image)
        pred, label = (to_ras(_plain(one_map(item[key])), affine)[0] for key in ("pred", "label"))
        draw_overlay(image, pred, spacing, self.names, self.path, case_name(case_path(item)), reference=label)


class RocSnapshot(Snapshot):
    """One ROC curve a finding, of all that `metric`, which an evaluator fills, has seen in its last run."""

    def __init__(self, path: str | Path, metric: CumulativeIterationMetric, class_names: Sequence[str]) -> None:
        super().__init__(path)
        self.metric, self.class_names = metric, list(class_names)

    def __call__(self, _: Engine) -> None:
        scores, truth = map(_plain, self.metric.get_buffer())
        draw_roc(truth, scores, self.class_names, self.path)


def one_map(regions: Tensor) -> Tensor:
    """A label map (1, h, w, d) as (h, w, d); of regions (C, h, w, d) the smallest at each voxel, numbered from 1."""
    if len(regions) == 1:
        return regions[0].long()
    numbers = torch.zeros(regions.shape[1:], dtype=torch.long, device=regions.device)
    for channel in regions.flatten(1).sum(dim=1).argsort(descending=True).tolist():
        numbers[regions[channel] > 0] = channel + 1
    return numbers


def _plain(values: Tensor) -> np.ndarray:
    values = torch.as_tensor(values).detach().cpu()
    return (values.float() if values.is_floating_point() else values).numpy()
