"""What a comparison found: every number as a table, the answer in words and figures, and a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import replacing, write_csv
from .cases import sources_of
from .curves import Rates, gate, steps_to_reach
from .plan import CHECKPOINTS, Plan
from .run import Setup
from .scores import Scores, long_rows, read_scores
from .settings import PROBE, PROBED
from .statistics import Difference, compare, summarise

COLUMNS = ("arm", "cases", "seed", "checkpoint", "case", "group", "class", "value", "truth")
Key = tuple[str, int, str]  # arm, number of labelled cases, checkpoint


@dataclass(frozen=True)
class Results:
    """All scores, one a seed, and the learning rates that validation chose."""

    plan: Plan
    rates: Rates
    scores: Mapping[Key, list[Scores]]

    def difference(self, arm: str, cases: int, other: str = "scratch", checkpoint: str = "last") -> Difference:
        """Of an arm against another with the same labelled cases; what is not trained has only "last"."""
        first, second = (
            self.scores.get((name, cases, checkpoint)) or self.scores[name, cases, "last"] for name in (arm, other)
        )
        return compare(first, second)

    def answer(self) -> str:
        """The first line of the report: what self pre-training changes with most labelled cases."""
        settings, metric = self.plan.settings, self.plan.recipe.metric
        if "self" not in settings.arms:
            return "This comparison has no arm that is pre-trained on its own images."
        cases = most_cases(settings.cases)
        found = self.difference("self", cases)
        count, scored = len(self.scores["self", cases, "last"][0].cases), settings.section
        text = (
            f"On these {count} {scored} cases self pre-training changes mean {metric} by {found.mean:+.3f} "
            f"[{found.low:+.3f}, {found.high:+.3f}]; the interval {found.verdict}."
        )
        share = steps_to_reach(self.plan, self.rates, "self", cases)
        reached = (
            "never reaches scratch's final value"
            if np.isnan(share)
            else (f"reaches scratch's final value in {100 * share:.0f} % of its steps")
        )
        text += f" On validation it {reached}."
        if "scratch_long" in settings.arms:
            against = self.difference("self", cases, "scratch_long")
            text += (
                f" Against scratch with the compute of pre-training added: {against.mean:+.3f} "
                f"[{against.low:+.3f}, {against.high:+.3f}]."
            )
        failed = [name for name, one in self.gates().items() if name.startswith("self") and not one["passed"]]
        if failed:
            text += (
                f" In {len(failed)} of its pre-trainings the masked loss did not beat the trivial predictors within "
                "the budget, so they had not learnt context."
            )
        return text

    def gates(self) -> dict[str, dict[str, float]]:
        """The end of every pre-training, by its name."""
        names = [run.name for run in self.plan.pretrainings()]
        return {name.partition("/")[2]: gate(self.plan.path(name)) for name in names}

    def summary(self) -> dict[str, Any]:
        """Everything the report shows as numbers."""
        settings = self.plan.settings
        arms = [
            {
                "arm": arm, "cases": cases, "checkpoint": checkpoint, "seeds": len(scores),
                "learning_rate": self.rates.get((arm, cases)),
                **dict(zip(("mean", "low", "high"), summarise(scores), strict=True)),
                "classes": dict(zip(scores[0].classes, mean_per_class(scores), strict=True)),
            }
            for (arm, cases, checkpoint), scores in self.scores.items()
        ]  # fmt: skip
        return {
            "answer": self.answer(), "metric": self.plan.recipe.metric, "settings": asdict(settings),
            "step_flops": self.plan.step_flops, "arms": arms, "differences": list(self.differences()),
            "pretraining": self.gates(),
        }  # fmt: skip

    def differences(self) -> list[dict[str, Any]]:
        """Every arm against scratch, the self pre-trained against every other, and frozen ones against random."""
        settings, found = self.plan.settings, []
        pairs = [(arm, "scratch") for arm in settings.arms if arm not in ("scratch", "pixels")]
        others = [arm for arm in settings.arms if arm not in ("self", "scratch")]
        pairs += [("self", arm) for arm in others if "self" in settings.arms]
        pairs += [("scratch", "pixels")] if "pixels" in settings.arms else []
        frozen = [arm for arm in dict.fromkeys(key[0] for key in self.scores) if arm in PROBED]
        pairs += [(arm, f"{PROBE}scratch") for arm in frozen if arm != f"{PROBE}scratch"]
        for cases in settings.cases:
            for arm, other in pairs:
                for checkpoint in CHECKPOINTS if arm not in PROBED else ("last",):
                    row = {"arm": arm, "against": other, "cases": cases, "checkpoint": checkpoint}
                    found.append(row | self.difference(arm, cases, other, checkpoint)._asdict())
        return found


def gather(plan: Plan, rates: Rates) -> Results:
    """Read what the evaluations wrote."""
    scores: dict[Key, list[Scores]] = {}
    settings = plan.settings
    items = plan.lists.sections[settings.section]
    sources = sources_of(items, settings.dataset_dir) if plan.recipe.classifies else None
    for setup, checkpoint, name in evaluated(plan, rates):
        found = read_scores(plan.path(name), sources)
        scores.setdefault((setup.arm, setup.cases, checkpoint), []).append(found)
    return Results(plan, rates, scores)


def evaluated(plan: Plan, rates: Rates) -> list[tuple[Setup, str, str]]:
    """(setup, checkpoint, run) of every evaluation."""
    found = [
        (setup, checkpoint, run.name)
        for setup in plan.setups()
        for checkpoint, run in zip(CHECKPOINTS, plan.evaluations(setup, rates[setup.arm, setup.cases]), strict=True)
    ]
    return found + [(setup, "last", run.name) for setup, run in plan.controls()]


def most_cases(cases: tuple[int, ...]) -> int:
    """The largest of the numbers of cases, where 0 stands for all."""
    return 0 if 0 in cases else max(cases)


def mean_per_class(scores: list[Scores]) -> list[float]:
    """Mean over seeds of each class."""
    return [float(value) for value in np.mean([one.per_class() for one in scores], axis=0)]


def write_tables(results: Results, folder: Path) -> None:
    """results.csv, every number of every case, arm and seed, and summary.json."""
    rows = [
        (arm, cases or "all", seed, checkpoint, *row)
        for (arm, cases, checkpoint), scores in results.scores.items()
        for seed, one in enumerate(scores)
        for row in long_rows(one)
    ]
    write_csv(folder / "results.csv", COLUMNS, rows)
    with replacing(folder / "summary.json") as beside:
        beside.write_text(json.dumps(results.summary(), indent=1, default=list), encoding="utf-8")
