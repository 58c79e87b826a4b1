"""What the runs logged: validation curves, and how pre-training went."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ..errors import InputError
from ..files import write_csv
from ..pretraining import TRIVIAL, passes_gate
from .plan import Plan
from .run import Choice, Choices, Setup

Curve = tuple[np.ndarray, np.ndarray]  # iterations, scores
LAST_ROWS = 20  # measurements at the end of a pre-training


def read_scalars(folder: Path, tag: str) -> tuple[list[int], list[float]]:
    """Steps, ascending, and values of a TensorBoard scalar; where a resumed run logged a step again, the later one."""
    found: dict[int, float] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        if tag in events.Tags()["scalars"]:
            found |= {event.step: event.value for event in events.Scalars(tag)}
    steps = sorted(found)
    return steps, [found[step] for step in steps]


def validation_curve(plan: Plan, setup: Setup, choice: Choice) -> Curve:
    """Iterations and validation scores of a fine-tuning; InputError where it logged none."""
    run, per_epoch = plan.fine_tuning(setup, choice), plan.costs.iterations("fine_tuning", setup.cases, setup.seed)
    epochs, values = read_scalars(plan.path(run.name), plan.recipe.curve)
    if not epochs:
        raise InputError(f"{run.name} logged no {plan.recipe.curve}; give the bundle validation cases")
    return np.array(epochs) * per_epoch, np.array(values)


def training_loss(plan: Plan, choices: Choices, arm: str, cases: int) -> float:
    """Mean over seeds of the training loss in the last epoch: how far the labels were learnt by heart."""
    last = []
    for setup in (Setup(arm, cases, seed) for seed in range(plan.settings.seeds)):
        per_epoch = plan.costs.iterations("fine_tuning", cases, setup.seed)
        _, values = read_scalars(plan.path(plan.fine_tuning(setup, choices[setup.key]).name), "train_loss")
        last.append(np.mean(values[-per_epoch:]))
    return float(np.mean(last))


def curves_of(plan: Plan, choices: Choices, arm: str, cases: int) -> list[Curve]:
    """The validation curve of each seed."""
    setups = [Setup(arm, cases, seed) for seed in range(plan.settings.seeds)]
    return [validation_curve(plan, setup, choices[setup.key]) for setup in setups]


def write_curves(plan: Plan, choices: Choices, file: Path) -> None:
    """A table of the validation curves of all that is fine-tuned at its arm's choice."""
    rows = [
        (setup.arm, setup.cases or "all", setup.seed, int(step), float(value))
        for setup in plan.setups()
        for step, value in zip(*validation_curve(plan, setup, choices[setup.key]), strict=True)
    ]
    write_csv(file, ("arm", "cases", "seed", "iteration", plan.recipe.curve), rows)


def mean_curve(curves: list[Curve]) -> Curve:
    """Mean over seeds, at the iterations of the first, since their epochs may differ a little."""
    steps = curves[0][0]
    return steps, np.mean([np.interp(steps, *curve) for curve in curves], axis=0)


def steps_to_reach(plan: Plan, choices: Choices, arm: str, cases: int) -> float:
    """Share of scratch's steps from which on an arm validates as well as scratch last does; NaN if it ends below.

    Both curves are means over seeds.
    """
    (steps, scratch), (own_steps, values) = (
        mean_curve(curves_of(plan, choices, name, cases)) for name in ("scratch", arm)
    )
    below = np.flatnonzero(values < scratch[-1])
    since = below[-1] + 1 if len(below) else 0
    return float(own_steps[since] / steps[-1]) if since < len(values) else float("nan")


def read_monitor(folder: Path) -> dict[str, np.ndarray]:
    """Columns of a pre-training's pretraining.csv."""
    with (folder / "pretraining.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def gate(plan: Plan, setup: Setup) -> dict[str, float]:
    """The masked loss and those of trivial predictors on unseen validation images, and whether it won; lowest rank."""
    with (plan.path(plan.gauge(setup).name) / "reconstruction.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    means = {name: float(np.mean([float(row[name]) for row in rows])) for name in ("masked_loss", *TRIVIAL)}
    columns = read_monitor(plan.path(plan.pretraining(setup).name))
    lowest = min(float(values[-LAST_ROWS:].mean()) for name, values in columns.items() if name.startswith("rank_block"))
    return means | {"passed": float(passes_gate(means)), "lowest_rank": lowest}
