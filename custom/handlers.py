"""Ignite handlers that MONAI lacks: progress, clipping, divergence, atomic checkpoints, early stopping."""

from __future__ import annotations

import logging
import math
import os
from pathlib import Path

from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from torch import nn
from tqdm import tqdm

from .checkpoints import write_checkpoint
from .errors import DivergedError

logger = logging.getLogger(__name__)


def is_main_process() -> bool:
    """True outside distributed runs and on rank 0: the process that writes files."""
    return int(os.environ.get("RANK", "0")) == 0


class Progress:
    """One bar over all iterations of a run, with the time left; a log line every tenth where there is no terminal."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.bar: tqdm | None = None

    def attach(self, engine: Engine) -> None:
        """Register with any engine."""
        engine.add_event_handler(Events.STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.bar.close())

    def _open(self, engine: Engine) -> None:
        total = engine.state.max_epochs * engine.state.epoch_length
        hidden = None if is_main_process() else True  # None: hidden unless the output is a terminal
        self.bar = tqdm(total=total, desc=self.description, initial=engine.state.iteration, disable=hidden)

    def _advance(self, engine: Engine) -> None:
        loss = engine.state.output.get("loss") if isinstance(engine.state.output, dict) else None
        if loss is not None:
            self.bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
        self.bar.update()
        done, total = engine.state.iteration, engine.state.max_epochs * engine.state.epoch_length
        if self.bar.disable and is_main_process() and done * 10 // total > (done - 1) * 10 // total:
            suffix = "" if loss is None else f", loss {loss.item():.4f}"
            logger.info(f"{self.description}: {done} of {total} iterations{suffix}")


class ClipGradients:
    """Clip the norm of all gradients before the optimiser's step; 0 leaves them alone."""

    def __init__(self, max_norm: float) -> None:
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with a MONAI trainer."""
        if self.max_norm:
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        nn.utils.clip_grad_norm_(engine.network.parameters(), self.max_norm)


class StopOnNaN:
    """End a training that has diverged, before anything of it is saved: DivergedError for a loss that is no number."""

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, before the handlers that measure and save."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        loss = engine.state.output["loss"].item()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} in epoch {engine.state.epoch}, training has diverged; go on from what was saved "
                "before with --resume true and a lower learning_rate, or begin anew with one"
            )


class SaveWeights:
    """Write the network's weights alone, ready to deploy, as `{"model": state_dict}`.

    Attached to a trainer: every `interval` epochs and at the end. Attached to a validator (`best=True`): whenever its
    key metric is the best so far.
    """

    def __init__(self, path: str | Path, network: nn.Module, interval: int = 1, best: bool = False) -> None:
        self.path, self.network, self.interval, self.best = Path(path), network, interval, best

    def attach(self, engine: Engine) -> None:
        """Register with a trainer or, with `best`, a validator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        if not self.best:
            engine.add_event_handler(Events.COMPLETED, lambda _: self.write())

    def __call__(self, engine: Engine) -> None:
        due = engine.state.epoch % self.interval == 0
        if self.best:
            due = engine.state.best_metric_epoch == engine.state.epoch
        if due:
            self.write()

    def write(self) -> None:
        """Write now."""
        if is_main_process():
            write_checkpoint({"model": self.network.state_dict()}, self.path)
            logger.info(f"weights in {self.path}")


class SaveUnvalidated:
    """Write a trainer's last weights where its validator has found no best ones, as when it had no case to measure.

    MONAI Label, for one, keeps a fifth of the labelled images for validation: of two, none.
    """

    def __init__(self, path: str | Path, network: nn.Module, validator: Engine) -> None:
        self.weights, self.validator = SaveWeights(path, network), validator

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        if self.validator.state.best_metric_epoch < 1:
            logger.warning("validation has chosen no weights: the last ones are kept, whatever they are worth")
            self.weights.write()


class EarlyStop:
    """End training when the validator's key metric has not improved for `patience` epochs."""

    def __init__(self, validator: Engine, patience: int) -> None:
        self.validator, self.patience = validator, patience

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after its ValidationHandler and `Resumable`: a run that had stopped stays so."""
        engine.add_event_handler(Events.STARTED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        best = self.validator.state.best_metric_epoch
        if best > 0 and engine.state.epoch - best >= self.patience:
            logger.info(f"stopped early: no better validation since epoch {best}")
            engine.terminate()
