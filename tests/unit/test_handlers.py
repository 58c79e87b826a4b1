"""Handlers around a MONAI trainer: saving, stopping early, clipping, progress."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from torch import nn

from custom.checkpoints import read_weights
from custom.errors import InputError
from custom.handlers import ClipGradients, EarlyStop, Progress, SaveUnvalidated, SaveWeights, StopOnNaN


def steps(engine: Engine, epochs: int) -> Engine:
    """Run an engine of no work for some epochs of one iteration."""
    engine.run([0], max_epochs=epochs)
    return engine


def empty_engine(**state: Any) -> Engine:
    engine = Engine(lambda *_: None)
    for name, value in state.items():
        setattr(engine.state, name, value)
    return engine


class Recorder(SaveWeights):
    """Notes the weight that each write would have saved."""

    def __init__(self, network: nn.Module, **more: Any) -> None:
        super().__init__("unused", network, **more)
        self.seen: list[float] = []

    def write(self) -> None:
        self.seen.append(self.network.weight.item())


def counting(handler: SaveWeights, epochs: int, metrics: list[float] | None = None) -> None:
    """A trainer whose weight is the epoch, or a validator that finds those metrics."""
    engine = empty_engine(best_metric_epoch=-1)

    @engine.on(Events.EPOCH_COMPLETED)
    def count(_: Engine) -> None:
        handler.network.weight.data.fill_(engine.state.epoch)
        if metrics and metrics[engine.state.epoch - 1] == max(metrics[: engine.state.epoch]):
            engine.state.best_metric_epoch = engine.state.epoch

    handler.attach(engine)
    steps(engine, epochs)


@pytest.mark.parametrize(("interval", "epochs", "seen"), [(1, 3, [1, 2, 3, 3]), (2, 5, [2, 4, 5]), (9, 3, [3])])
def test_weights_are_saved_at_the_interval_and_at_the_end(interval: int, epochs: int, seen: list[int]) -> None:
    handler = Recorder(nn.Linear(1, 1, bias=False), interval=interval)
    counting(handler, epochs)
    assert handler.seen == seen


def test_the_best_weights_are_saved_whenever_validation_is_the_best_so_far() -> None:
    handler = Recorder(nn.Linear(1, 1, bias=False), best=True)
    counting(handler, 5, [0.3, 0.5, 0.4, 0.6, 0.1])
    assert handler.seen == [1, 2, 4]


def test_saved_weights_are_the_networks_and_only_the_main_process_saves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Linear(2, 2)
    handler = SaveWeights(tmp_path / "models" / "model.pt", network)
    monkeypatch.setenv("RANK", "1")
    handler.write()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "0")
    handler.write()
    assert torch.equal(read_weights(tmp_path / "models" / "model.pt")["weight"], network.weight)


@pytest.mark.parametrize(("best_epoch", "patience", "stopped"), [(2, 3, 5), (2, 1, 3), (-1, 2, 8), (7, 3, 8)])
def test_training_stops_when_validation_has_not_improved_for_the_patience(
    best_epoch: int, patience: int, stopped: int
) -> None:
    validator, trainer = empty_engine(best_metric_epoch=-1), empty_engine()
    completed = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def validate(_: Engine) -> None:
        if best_epoch > 0 and trainer.state.epoch <= best_epoch:
            validator.state.best_metric_epoch = trainer.state.epoch

    EarlyStop(validator, patience).attach(trainer)
    trainer.add_event_handler(Events.COMPLETED, lambda _: completed.append(True))
    assert steps(trainer, 8).state.epoch == stopped and completed == [True]


@pytest.mark.parametrize(("max_norm", "norm"), [(0.5, 0.5), (1e6, 80**0.5), (0, 80**0.5)])
def test_the_gradients_norm_is_bounded_before_the_step(max_norm: float, norm: float) -> None:
    network = nn.Linear(4, 5, bias=False)
    nn.init.ones_(network.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    batch = {"image": torch.ones(1, 4), "label": torch.zeros(1, 5)}
    SupervisedTrainer(
        "cpu", 1, [batch], network, optimizer, lambda out, _: 2 * out.sum(), decollate=False,
        train_handlers=[ClipGradients(max_norm)],
    ).run()  # fmt: skip
    assert network.weight.grad.norm().item() == pytest.approx(norm, rel=1e-4)
    assert (1 - network.weight).norm().item() == pytest.approx(norm, rel=1e-4)


def test_a_diverged_training_ends_before_it_saves() -> None:
    losses, saved = iter([1.0, 2.0, float("nan"), 1.0]), []
    engine = Engine(lambda *_: {"loss": torch.tensor(next(losses))})
    StopOnNaN().attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: saved.append(engine.state.epoch))
    with pytest.raises(InputError, match="the loss is nan in epoch 2, training has diverged"):
        engine.run([0, 0], max_epochs=2)
    assert saved == [1]


class Terminal(io.StringIO):
    """A text stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal, True), (io.StringIO, False)])
def test_progress_shows_one_bar_over_the_whole_run_on_a_terminal_only(
    stream: type[io.StringIO], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = stream()
    monkeypatch.setattr(sys, "stderr", output)
    engine = Engine(lambda *_: {"loss": torch.tensor(0.25)})
    Progress("training").attach(engine)
    engine.run([0, 0], max_epochs=3)
    assert ("training: 100%" in output.getvalue() and "6/6" in output.getvalue()) == shown
    assert ("loss=0.2500" in output.getvalue()) == shown


@pytest.mark.parametrize(("best_epoch", "written"), [(-1, True), (1, False)])
def test_the_last_weights_are_kept_only_where_validation_chose_none(
    best_epoch: int, written: bool, tmp_path: Path
) -> None:
    network, trainer = nn.Linear(1, 1), empty_engine()
    SaveUnvalidated(tmp_path / "model.pt", network, empty_engine(best_metric_epoch=best_epoch)).attach(trainer)
    steps(trainer, 2)
    assert (tmp_path / "model.pt").is_file() == written
