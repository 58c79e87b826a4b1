"""What a comparison found: the scores of all arms, their differences, and a summary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files import read_json, replacing
from .answer import answer
from .arms import PROBE
from .choose import edges
from .curves import gate, training_loss, write_curves
from .plan import CHECKPOINTS, Plan
from .readouts import readout, readout_setups
from .run import DONE, LOOKS, Choices
from .scores import Scores, read_evaluation
from .statistics import Difference, compare, summarise
from .table import AllScores, write_table

UNKNOWN = dict.fromkeys(("python", "torch", "monai", "code"), "unknown")  # of runs that kept no versions


@dataclass(frozen=True)
class Results:
    """All scores, one a seed, and what validation chose."""

    plan: Plan
    choices: Choices
    scores: AllScores

    def difference(self, arm: str, cases: int, other: str = "scratch", checkpoint: str = "last") -> Difference:
        """Of an arm against another with the same labelled cases."""
        return difference(self.scores, arm, cases, other, checkpoint)

    def gates(self) -> dict[str, dict[str, float]]:
        """The end of every pre-training of whole images, by its name."""
        return {str(setup): gate(self.plan, setup) for setup in self.plan.gauged_setups()}

    def looks(self) -> list[str]:
        """With what the test cases were scored, in that order."""
        scored = [look["scored"] for look in read_looks(self.plan.folder)]
        return [what + (", trained again" if what in scored[:at] else "") for at, what in enumerate(scored)]

    def made_by(self) -> list[dict[str, str]]:
        """Versions of code and packages that made the runs, each once."""
        ended = [read_json(file) for file in sorted((self.plan.folder / "runs").glob(f"*/*/{DONE}"))]
        return list({json.dumps(one): one for one in (done.get("versions", UNKNOWN) for done in ended)}.values())

    def summary(self) -> dict[str, Any]:
        """Everything the report shows as numbers."""
        plan = self.plan
        return {
            "answer": answer(self), "metric": plan.recipe.metric,
            "settings": without_folders(asdict(plan.settings)),
            "sections": {name: len(items) for name, items in plan.lists.sections.items()},
            "image_flops": {kind: plan.costs.image_flops(kind) for kind in ("pretraining", "fine_tuning")},
            "labels": {key[0]: plan.settings.label(key[0]) for key in self.scores},
            "arms": [self.arm(*key) for key in self.scores],
            "differences": self.differences(), "pretraining": self.gates(), "made_by": self.made_by(),
            "looks": self.looks(),
        }  # fmt: skip

    def arm(self, arm: str, cases: int, checkpoint: str) -> dict[str, Any]:
        """Mean, interval, scores of the classes, and what was spent on it."""
        scores, choice = self.scores[arm, cases, checkpoint], self.choices.get((arm, cases))
        row = {"arm": arm, "cases": cases, "labelled": self.plan.lists.count(cases, 0), "checkpoint": checkpoint}
        row |= mean_of(scores) | {"seeds": len(scores)}
        row["classes"] = dict(zip(scores[0].classes, mean_per_class(scores), strict=True))
        if choice:
            row |= choice._asdict() | {"edges": edges(self.plan, choice)}
            row |= self.plan.costs.total(arm, cases, 0)
            row["training_loss"] = training_loss(self.plan, self.choices, arm, cases)
        return row

    def differences(self) -> list[dict[str, Any]]:
        """Every arm against scratch, the self pre-trained against every other, and frozen ones against random."""
        settings, found = self.plan.settings, []
        pairs = [(arm, "scratch") for arm in settings.arms if arm not in ("scratch", "pixels")]
        others = [arm for arm in settings.arms if arm not in ("self", "scratch")]
        pairs += [("self", arm) for arm in others if "self" in settings.arms]
        pairs += [("scratch", "pixels")] if "pixels" in settings.arms else []
        frozen = [arm for arm in dict.fromkeys(key[0] for key in self.scores) if arm.startswith(PROBE)]
        pairs += [(arm, f"{PROBE}scratch") for arm in frozen if arm != f"{PROBE}scratch"]
        for cases in settings.cases:
            for arm, other in pairs:
                for checkpoint in CHECKPOINTS if arm not in frozen else ("last",):
                    row = {"arm": arm, "against": other, "cases": cases, "checkpoint": checkpoint}
                    found.append(row | self.difference(arm, cases, other, checkpoint)._asdict())
        return found


def read_looks(folder: Path) -> list[dict[str, str]]:
    """Each scoring of test cases: `scored` with what, `models` a digest, "" in folders of older versions."""
    looks = read_json(folder / LOOKS) if (folder / LOOKS).is_file() else []
    kept = [{"scored": look} if isinstance(look, str) else look for look in looks]
    return [{"scored": look["scored"], "models": look.get("models", "")} for look in kept]


def without_folders(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as results may tell them, which are handed on; settings.json keeps the folders."""
    return {key: _without_folder(value) for key, value in settings.items() if key != "dataset_dir"}


def _without_folder(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_folder(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folder(inner) for inner in value]
    if not isinstance(value, str):
        return value
    expression = value.startswith(("$", "@", "%"))
    if Path(value).is_absolute() or (
        "/" in value and not expression and Path(value).exists()
    ):  # Mass/Nodule is a class
        return Path(value).name
    return re.sub(r"(?<=['\"])/[^'\"]*/(?=[^/'\"]*['\"])", "", value)  # paths that an expression quotes


def gather(plan: Plan, choices: Choices) -> Results:
    """Read what the evaluations wrote."""
    scores, section = {}, plan.settings.section
    for setup in plan.setups():
        for checkpoint in CHECKPOINTS:
            run = plan.evaluation(setup, choices[setup.key], checkpoint, section)
            scores.setdefault((*setup.key, checkpoint), []).append(read_evaluation(plan, run.name, section))
    for setup in readout_setups(plan):
        found = read_evaluation(plan, readout(plan, setup, section).name, section)
        scores.setdefault((*setup.key, "last"), []).append(found)
    return Results(plan, choices, scores)


def mean_of(scores: Sequence[Scores]) -> dict[str, float]:
    """Mean over seeds and its interval."""
    return dict(zip(("mean", "low", "high"), summarise(scores), strict=True))


def mean_per_class(scores: Sequence[Scores]) -> list[float]:
    """Mean over seeds of each class."""
    return [float(value) for value in np.mean([one.per_class() for one in scores], axis=0)]


def difference(scores: AllScores, arm: str, cases: int, other: str, checkpoint: str) -> Difference:
    """Of an arm against another with the same labelled cases; what is not trained has only "last"."""
    first, second = (scores.get((name, cases, checkpoint)) or scores[name, cases, "last"] for name in (arm, other))
    return compare(first, second)


def computed_again(summary: dict[str, Any], scores: AllScores) -> dict[str, Any]:
    """A summary with means, intervals and differences as they follow from the scores."""
    arms = [row | mean_of(scores[row["arm"], row["cases"], row["checkpoint"]]) for row in summary["arms"]]
    differences = [
        row | difference(scores, row["arm"], row["cases"], row["against"], row["checkpoint"])._asdict()
        for row in summary["differences"]
    ]
    return without_nan(summary | {"arms": arms, "differences": differences})


def write_tables(results: Results, folder: Path) -> None:
    """results.csv, curves.csv and summary.json."""
    (folder / "report.html").unlink(missing_ok=True)  # written last: where it is, the tables are those it shows
    write_table(folder / "results.csv", results.scores)
    write_curves(results.plan, results.choices, folder / "curves.csv")
    write_summary(results.summary(), folder / "summary.json")


def write_summary(summary: dict[str, Any], file: Path) -> None:
    """As JSON, complete or absent."""
    with replacing(file) as beside:
        content = json.dumps(without_nan(summary), indent=1, default=list, allow_nan=False)
        beside.write_text(content, encoding="utf-8")


def without_nan(value: Any) -> Any:
    """None for what is no number, which JSON has no word for."""
    if isinstance(value, Mapping):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and np.isnan(value) else value
