"""A comparison from its settings to its report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import read_json, replacing
from .choose import choose, grid
from .execute import Executor, Say, locked
from .plan import CHECKPOINTS, Plan
from .readouts import readout, readout_setups
from .recipe import Recipe, config_files
from .report import write_report
from .results import Results, gather, read_looks, write_tables
from .run import DONE, LOOKS, Choice, Choices, Run, Setup
from .settings import Settings

MAY_GROW = ("seeds", "cases", "arms", "learning_rates", "layer_decays", "section", "probe", "variants")
SETTINGS, DIGESTS = "settings.json", "digests.json"  # what was asked for, and of which files


def run_comparison(settings: Settings, folder: Path, workers: int, say: Say) -> Results:
    """Pre-train, fine-tune and evaluate what is not done yet, then write tables and report to `folder`.

    The order matters: no fine-tuning begins before its pre-training has ended, validation with the first seed chooses,
    and nothing looks at the scored cases before all of that is fixed.

    Raises:
        InputError: settings that do not fit the data or an earlier comparison in `folder`, or a run that failed.
    """
    folder = folder.resolve()
    with locked(folder):
        forget_reading(folder)
        plan = Plan(settings, folder)  # reads the data and makes the networks: what is mistyped is not remembered
        runs = all_runs(plan)
        work = sum(run.work for run in runs)
        executor = Executor(folder, workers, work, say)
        remember(settings, folder)
        plan.lists.write()
        plan.write_initial_weights()
        say(f"{len(runs)} runs, of about {work / 1e15:.2g} PFLOP in all, those that are done already included")
        executor.execute("reading the data", list(plan.preparations()))
        tried = grid(plan)
        executor.execute("pre-training, and learning rates with the first seed", pretrainings(plan) + tried, tried)
        choices = tune(plan, executor)
        score(plan, executor, choices)
        results = gather(plan, choices)
        write_tables(results, folder)
        write_report(results, folder)
    return results


def tune(plan: Plan, executor: Executor) -> Choices:
    """Fine-tune every model with what its arm has chosen; an arm that diverges with a later seed chooses again."""
    while True:
        choices = choose(plan)
        tunings = [plan.fine_tuning(setup, choices[setup.key]) for setup in plan.setups()]
        executor.execute("fine-tuning at the chosen ones", tunings, tunings)
        if not any(executor.failed(run.name) for run in tunings):
            return choices


def score(plan: Plan, executor: Executor, choices: Choices) -> None:
    """Evaluate every model; that test cases are looked at is written first, as who interrupts may have read some."""
    runs = scoring(plan, choices)
    if plan.settings.section == "test":
        count_look(plan.settings, plan.folder, [executor.done_file(name) for run in runs for name in run.needs])
    executor.execute(f"scoring {plan.settings.section} cases", runs)


def scoring(plan: Plan, choices: Choices) -> list[Run]:
    """The evaluations of everything fine-tuned, and of frozen encoders."""
    section = plan.settings.section
    runs = [plan.evaluation(*one, section) for one in evaluated(plan, choices)]
    return runs + [readout(plan, setup, section) for setup in readout_setups(plan)]


def pretrainings(plan: Plan) -> list[Run]:
    """Every pre-training, and what measures those of whole images."""
    return [plan.pretraining(setup) for setup in plan.pretrained_setups()] + [
        plan.gauge(setup) for setup in plan.gauged_setups()
    ]


def evaluated(plan: Plan, choices: Choices) -> list[tuple[Setup, Choice, str]]:
    """(setup, choice, checkpoint) of everything fine-tuned."""
    return [(setup, choices[setup.key], checkpoint) for setup in plan.setups() for checkpoint in CHECKPOINTS]


def forget_reading(folder: Path) -> None:
    """Remove what was kept of a comparison that ended before its first training, as labels may ask for other settings.

    What it has read stays in the cache, and looks at test cases are never forgotten. DIGESTS goes last, since without
    it nothing is removed.
    """
    begun = {path.name for path in (folder / "runs").glob("[!.]*")} - {"preparation"}
    if (folder / DIGESTS).is_file() and not begun and not (folder / LOOKS).is_file():
        shutil.rmtree(folder / "runs", ignore_errors=True)
        for file in ("lists/*.json", "initial/*.pt", SETTINGS, DIGESTS):
            for path in folder.glob(file):
                path.unlink()


def remember(settings: Settings, folder: Path) -> None:
    """Write settings.json and digests.json; InputError if the folder holds a comparison of something else.

    More seeds, cases, arms or choices, or another section, are no other comparison: what is there stays valid. But
    once test cases have been scored there is nothing to choose any more, neither rates nor ways to pre-train.
    """
    content = json.loads(json.dumps(asdict(settings), default=list))
    digests: dict[str, Any] = {"configs": digests_of_configs(settings.recipe)}
    if settings.weights:
        digests["weights_digest"] = hashlib.sha256(Path(settings.weights).read_bytes()).hexdigest()
    if (folder / SETTINGS).is_file():
        kept = read_json(folder / DIGESTS) if (folder / DIGESTS).is_file() else digests  # older ones kept none
        check_same(content | digests, kept | read_json(folder / SETTINGS), folder)
    for name, what in ((DIGESTS, digests), (SETTINGS, content)):
        with replacing(folder / name) as beside:
            beside.write_text(json.dumps(what, indent=1), encoding="utf-8")


def check_same(content: Mapping[str, Any], earlier: Mapping[str, Any], folder: Path) -> None:
    """InputError if what a folder is to hold differs from what it holds in more than may change by now."""
    looked = (folder / LOOKS).is_file() or any((folder / "runs" / "evaluation").glob(f"*_test/{DONE}"))
    may_grow = set(MAY_GROW) - ({"learning_rates", "layer_decays", "variants"} if looked else set())
    may_grow |= set() if earlier.get("weights") else {"weights", "weights_digest"}
    for name in content:
        if name not in may_grow and content[name] != earlier.get(name):
            was = told(earlier.get(name), content[name])
            raise InputError(f"{folder} holds a comparison with another {name} ({was}); choose another output_dir")


def digests_of_configs(recipe: Recipe) -> dict[str, str]:
    """What tells the bundles' configs from others of their names."""
    used = [(recipe.pretraining_bundle, recipe.gauge), (recipe.bundle, ("train", "evaluate"))]
    files = [Path(file) for bundle, stems in used for file in config_files(bundle, stems)]
    return {f"{file.parts[-3]}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files}


def told(was: Any, now: Any) -> str:
    """What of a setting has changed, in words."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        name = next(name for name in (*was, *now) if was.get(name) != now.get(name))
        return f"{name}: {told(was.get(name), now.get(name))}"
    return f"{was!r}, not {now!r}"


def count_look(settings: Settings, folder: Path, trained: Sequence[Path]) -> None:
    """Add to looks.json with what test cases are to be scored: who looks until a difference shows finds one.

    The files that tell how the models were `trained` tell whether they are those of an earlier look. Looks of older
    versions, which told less, are taken for this one.
    """
    looks, cases = read_looks(folder), ", ".join(str(cases or "all") for cases in settings.cases)
    older = f"{settings.seeds} seeds of {', '.join(settings.arms)} and {cases} labelled"
    scored = older + ("" if settings.probe else ", without frozen encoders")
    models = hashlib.sha256(b"".join(path.read_bytes() for path in trained)).hexdigest()
    for look in looks:
        if not look["models"] and look["scored"] in (older, scored):
            look.update(scored=scored, models=models)
    if {"scored": scored, "models": models} not in looks:
        looks.append({"scored": scored, "models": models})
    with replacing(folder / LOOKS) as beside:
        beside.write_text(json.dumps(looks), encoding="utf-8")


def all_runs(plan: Plan) -> list[Run]:
    """Everything to come, about, as nothing is chosen yet."""
    choice = plan.choices()[0]
    later = [setup for setup in plan.setups() if setup.seed]
    runs = pretrainings(plan) + grid(plan) + [plan.fine_tuning(setup, choice) for setup in later]
    choices = {setup.key: choice for setup in plan.setups()}
    return list(dict.fromkeys(runs + scoring(plan, choices)))
