"""A comparison from its settings to its report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from ..errors import InputError
from ..files import replacing
from .curves import choose_rates
from .execute import Executor, Say, locked
from .plan import Plan
from .report import write_report
from .results import Results, gather, write_tables
from .settings import Settings


def run_comparison(settings: Settings, folder: Path, workers: int, say: Say) -> Results:
    """Pre-train, fine-tune and evaluate what is not done yet, then write tables and report to `folder`.

    The order matters: no fine-tuning begins before its pre-training has ended, the first seed chooses the learning
    rates, and nothing looks at the scored cases before all of that is fixed.

    Raises:
        InputError: settings that do not fit the data or an earlier comparison in `folder`, or a run that failed.
    """
    folder = folder.resolve()
    with locked(folder):
        remember(settings, folder)
        plan = Plan(settings, folder)
        plan.lists.write()
        executor = Executor(folder, workers, total_work(plan), say)
        executor.execute(list(plan.pretrainings()))
        executor.execute([run for _, run in plan.fine_tunings(first=True)])
        rates = choose_rates(plan)
        setups = list(plan.setups())
        executor.execute([plan.fine_tuning(setup, rates[setup.arm, setup.cases]) for setup in setups])
        evaluations = [run for setup in setups for run in plan.evaluations(setup, rates[setup.arm, setup.cases])]
        executor.execute([*evaluations, *(run for _, run in plan.controls())])
        results = gather(plan, rates)
        write_tables(results, folder)
        write_report(results, folder)
    return results


def remember(settings: Settings, folder: Path) -> None:
    """Write settings.json; InputError if the folder holds a comparison of something else.

    More seeds, cases, arms or learning rates are no other comparison: what is there stays valid.
    """
    file, content = folder / "settings.json", json.loads(json.dumps(asdict(settings), default=list))
    may_grow = ("seeds", "cases", "arms", "learning_rates")
    if file.is_file():
        earlier = json.loads(file.read_text(encoding="utf-8"))
        changed = [name for name in content if name not in may_grow and content[name] != earlier.get(name)]
        if changed:
            raise InputError(f"{folder} holds a comparison with another {changed[0]}; choose another output_dir")
    with replacing(file) as beside:
        beside.write_text(json.dumps(content, indent=1), encoding="utf-8")


def total_work(plan: Plan) -> float:
    """FLOPs of everything to come, about, to tell the time left."""
    tunings = [pair for first in (True, False) for pair in plan.fine_tunings(first)]
    runs = [run for _, run in tunings] + list(plan.pretrainings())
    rate = plan.settings.learning_rates[0]
    evaluations = [run for setup in plan.setups() for run in plan.evaluations(setup, rate)]
    return sum(run.work for run in [*runs, *evaluations])
