"""What the runs logged: validation curves, the choice of a learning rate by them, and how pre-training went."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ..errors import InputError
from ..pretraining import TRIVIAL, passes_gate
from .plan import Plan
from .run import Run, Setup

Curve = tuple[np.ndarray, np.ndarray]  # iterations, scores
Rates = Mapping[tuple[str, int], float]  # (arm, number of labelled cases) -> learning rate
GATE_ROWS = 20  # the last measurements that the gate is judged on, as in the log of pre-training


def read_scalars(folder: Path, tag: str) -> tuple[list[int], list[float]]:
    """Steps, ascending, and values of a TensorBoard scalar; where a resumed run logged a step again, the later one."""
    found: dict[int, float] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        if tag in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(tag)}
    steps = sorted(found)
    return steps, [found[step] for step in steps]


def validation_curve(plan: Plan, run: Run) -> Curve:
    """Iterations and validation scores of a fine-tuning; InputError where it logged none."""
    epochs, values = read_scalars(plan.path(run.name), plan.recipe.curve)
    if not epochs:
        raise InputError(f"{run.name} logged no {plan.recipe.curve}; give the bundle validation cases")
    per_epoch = run.steps / run.overrides["max_epochs"]
    return np.array(epochs) * per_epoch, np.array(values)


def choose_rates(plan: Plan) -> dict[tuple[str, int], float]:
    """(arm, cases) -> the learning rate whose last weights of the first seed validate best; the lowest of equals."""
    best: dict[tuple[str, int], tuple[float, float]] = {}
    for setup, run in plan.fine_tunings(first=True):
        score, rate = float(validation_curve(plan, run)[1][-1]), run.overrides["learning_rate"]
        key = (setup.arm, setup.cases)
        if key not in best or (score, -rate) > best[key]:
            best[key] = (score, -rate)
    return {key: -rate for key, (_, rate) in best.items()}


def curves_of(plan: Plan, rates: Rates, arm: str, cases: int) -> list[Curve]:
    """The validation curve of each seed."""
    setups = [Setup(arm, cases, seed) for seed in range(plan.settings.seeds)]
    return [validation_curve(plan, plan.fine_tuning(setup, rates[arm, cases])) for setup in setups]


def mean_curve(curves: list[Curve]) -> Curve:
    """Mean over seeds, at the iterations of the first, since their epochs may differ a little."""
    steps = curves[0][0]
    return steps, np.mean([np.interp(steps, *curve) for curve in curves], axis=0)


def steps_to_reach(plan: Plan, rates: Rates, arm: str, cases: int) -> float:
    """Share of scratch's steps after which an arm first validates as well as scratch's end does; NaN if it never does.

    Both curves are means over seeds.
    """
    (steps, scratch), (own_steps, values) = (
        mean_curve(curves_of(plan, rates, name, cases)) for name in ("scratch", arm)
    )
    reached = np.flatnonzero(values >= scratch[-1])
    return float(own_steps[reached[0]] / steps[-1]) if len(reached) else float("nan")


def read_monitor(folder: Path) -> dict[str, np.ndarray]:
    """Columns of a pre-training's pretraining.csv."""
    with (folder / "pretraining.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def gate(folder: Path) -> dict[str, float]:
    """The masked loss and those of the trivial predictors at the end of a pre-training, and whether it won."""
    columns = read_monitor(folder)
    means = {name: float(columns[name][-GATE_ROWS:].mean()) for name in ("masked_loss", *TRIVIAL)}
    lowest = min(float(values[-GATE_ROWS:].mean()) for name, values in columns.items() if name.startswith("rank_block"))
    return means | {"passed": float(passes_gate(means)), "lowest_rank": lowest}
