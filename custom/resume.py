"""A run that was cut off goes on where its last checkpoint was written, and ends as if it had not been."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from .checkpoints import read_checkpoint, write_checkpoint
from .errors import InputError
from .files import hold_folder, remove_unfinished
from .handlers import is_main_process

logger = logging.getLogger(__name__)


class Resumable:
    """Write everything that a run needs to go on, every `interval` epochs, and go on from it if asked to.

    A resumed run equals an unbroken one: data and masks are functions of (seed, epoch), the rest is saved here. The
    file before the last is kept as `<stem>.previous.pt`, and used where the last one is missing or cannot be read.

    Args:
        path: the file, complete or absent at every moment.
        objects: name -> object with state_dict and load_state_dict (network, optimiser, schedule, ...).
        resume: continue from `path`; with a warning from the beginning where nothing was saved yet.
        validator: its best metric so far is kept, so that "best" means best of the whole run.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        resume: bool = False,
        interval: int = 1,
        validator: Engine | None = None,
    ) -> None:
        self.path, self.objects, self.resume = Path(path), dict(objects), resume
        self.previous = self.path.with_suffix(f".previous{self.path.suffix}")
        self.is_own = False  # whether the file at `path` is of this run, and whole
        self.interval, self.validator = interval, validator
        self._lock: IO[str] | None = None  # keeps a second run out of the folder

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, after the handlers that change what is saved."""
        engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self._save)
        engine.add_event_handler(Events.COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._leave)

    def _save(self, engine: Engine) -> None:
        if not is_main_process():
            return
        content = {name: item.state_dict() for name, item in self.objects.items()}
        content["run"] = {"epoch": engine.state.epoch, "iteration": engine.state.iteration}
        content["run"]["epoch_length"] = engine.state.epoch_length
        content["random"] = random_states()
        if self.validator is not None:
            state = self.validator.state
            content["best"] = {"metric": float(state.best_metric), "epoch": state.best_metric_epoch}
        write_checkpoint(content, self.path, self.previous if self.is_own else None)
        self.is_own = True

    def _leave(self, _: Engine) -> None:
        if self._lock is not None:
            self._lock.close()

    def _load(self, engine: Engine) -> None:
        if is_main_process():
            self._lock = hold_folder(self.path.parent)
            if self._lock is not None:
                remove_unfinished(self.path.parent)
            if not self.resume:
                self._set_aside()
        if not self.resume:
            return
        if not (self.path.is_file() or self.previous.is_file()):
            logger.warning(f"nothing to resume from at {self.path}: the run begins anew")
            check_same_epoch(0)
            return
        content = self._read()
        check_same_epoch(content["run"]["epoch"])
        if content["run"]["epoch_length"] != engine.state.epoch_length:
            raise InputError(
                f"{self.source} comes from a run of {content['run']['epoch_length']} iterations an epoch, this one has "
                f"{engine.state.epoch_length}; resume with the same data, split and batch size"
            )
        self._load_objects(content)
        engine.state.epoch, engine.state.iteration = content["run"]["epoch"], content["run"]["iteration"]
        set_random_states(content["random"])
        if self.validator is not None:
            self.validator.state.best_metric = content["best"]["metric"]
            self.validator.state.best_metric_epoch = content["best"]["epoch"]
        logger.info(f"resumed after epoch {engine.state.epoch} of {engine.state.max_epochs} from {self.source}")
        if engine.state.epoch >= engine.state.max_epochs:
            logger.warning("nothing is left to train; raise max_epochs")

    def _set_aside(self) -> None:
        """Keep the state of an earlier run in the same folder: --resume true may have been forgotten."""
        self.previous.unlink(missing_ok=True)
        if self.path.is_file():
            earlier = self.path.with_suffix(f".earlier{self.path.suffix}")
            self.path.replace(earlier)
            logger.warning(
                f"{self.path} was of an earlier run and is {earlier.name} now; --resume true would have gone on from it"
            )

    @property
    def source(self) -> Path:
        """The file that the run goes on from."""
        return self.path if self.is_own else self.previous

    def _read(self) -> dict[str, Any]:
        try:
            content, self.is_own = read_checkpoint(self.path), True
        except InputError:
            if not self.previous.is_file():
                raise
            logger.warning(f"{self.path} is missing or broken: the run goes on from the one before, {self.previous}")
            content = self._read_previous()
        needed = [*self.objects, "run", "random"] + ["best"] * (self.validator is not None)
        missing = [name for name in needed if name not in content]
        if missing:
            raise InputError(f"{self.source} holds no '{missing[0]}'; resume from the last file of such a run")
        return content

    def _read_previous(self) -> dict[str, Any]:
        try:
            return read_checkpoint(self.previous)
        except InputError as error:
            raise InputError(
                f"neither {self.path} nor {self.previous} can be read; begin anew in another folder"
            ) from error

    def _load_objects(self, content: dict[str, Any]) -> None:
        for name, item in self.objects.items():
            try:
                item.load_state_dict(content[name])
            except (RuntimeError, ValueError, KeyError) as error:  # of torch, for other shapes, keys or groups
                raise InputError(
                    f"'{name}' in {self.source} does not fit this run; resume with the config it was started with"
                ) from error


def check_same_epoch(epoch: int) -> None:
    """InputError where the processes of a run resume after different epochs, as on folders that they do not share."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    epochs: list[int] = [0] * dist.get_world_size()
    dist.all_gather_object(epochs, epoch)
    if len(set(epochs)) > 1:
        raise InputError(f"the processes resume after epochs {epochs}; give all of them the same output_dir")


def random_states() -> dict[str, torch.Tensor]:
    """State of torch's own generators, which drop path draws from: the CPU's and, if there is one, the GPU's."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else states


def set_random_states(states: dict[str, torch.Tensor]) -> None:
    """Undo what was drawn since `random_states`."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
