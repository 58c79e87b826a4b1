"""The choice of a learning rate and layer decay for each arm, by the last weights of the first seed on validation."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .plan import Plan
from .run import DONE, FAILED, Choice, Run, Setup
from .scores import read_evaluation
from .statistics import overall


def grid(plan: Plan) -> list[Run]:
    """Every choice for each arm and number of cases, and its evaluation on the validation cases."""
    tried = [(setup, choice) for setup in first_setups(plan) for choice in plan.choices()]
    tunings = [plan.fine_tuning(setup, choice) for setup, choice in tried]
    return tunings + [plan.evaluation(setup, choice, "last", "validation") for setup, choice in tried]


def first_setups(plan: Plan) -> list[Setup]:
    """What is fine-tuned with the first seed."""
    return [setup for setup in plan.setups() if setup.seed == 0]


def choose(plan: Plan) -> dict[tuple[str, int], Choice]:
    """(arm, cases) -> what validates best of all that diverged with no seed; of equals the one with the lowest rate.

    Raises:
        InputError: all fine-tunings of an arm failed, as when every learning rate is too high.
    """
    chosen = {}
    for setup in first_setups(plan):
        scores = {choice: validated(plan, setup, choice) for choice in sorted(plan.choices())}
        best = max(scores, key=scores.__getitem__)
        if scores[best] == -np.inf:
            raise InputError(
                f"no fine-tuning of {setup} succeeded; see the log.txt of each in {plan.path('fine_tuning')}, lower "
                "learning_rates"
            )
        chosen[setup.key] = best
    return chosen


def diverged(plan: Plan, cases: int) -> list[str]:
    """What arms could not train with, at this number of labelled cases, in words."""
    tried = [(setup, choice) for setup in first_setups(plan) if setup.cases == cases for choice in plan.choices()]
    lost = [(setup, choice) for setup, choice in tried if has_diverged(plan, setup, choice)]
    decays = len(plan.settings.layer_decays) > 1
    return [
        f"{plan.settings.label(setup.arm)} at {choice.learning_rate:g}"
        + (f" and layer decay {choice.layer_decay:g}" if decays else "")
        for setup, choice in lost
    ]


def has_diverged(plan: Plan, setup: Setup, choice: Choice) -> bool:
    """Whether a choice diverged with any seed that was tried, or the first seed's predictions are not finite."""
    setups = [setup._replace(seed=seed) for seed in range(plan.settings.seeds)]
    tried = [plan.fine_tuning(one, choice) for one in setups]
    tried.append(plan.evaluation(setups[0], choice, "last", "validation"))
    return any((plan.path(run.name) / FAILED).is_file() for run in tried)


def validated(plan: Plan, setup: Setup, choice: Choice) -> float:
    """The mean score of the last weights on the validation cases; minus infinity where there is none."""
    run = plan.evaluation(setup, choice, "last", "validation")
    if has_diverged(plan, setup, choice) or not (plan.path(run.name) / DONE).is_file():
        return -np.inf
    mean = overall(read_evaluation(plan, run.name, "validation"))
    return -np.inf if np.isnan(mean) else mean


def edges(plan: Plan, choice: Choice) -> list[str]:
    """Which of learning rate and layer decay ends what was tried, so that a better one may lie beyond.

    A decay of 1 is none at all, beyond which there is nothing.
    """
    rates, decays = plan.settings.learning_rates, plan.settings.layer_decays
    of_rate = len(rates) > 1 and choice.learning_rate in (min(rates), max(rates))
    of_decay = len(decays) > 1 and choice.layer_decay in {min(decays), max(decays)} - {1.0}
    return ["learning_rate"] * of_rate + ["layer_decay"] * of_decay
