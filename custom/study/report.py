"""One self-contained page: the answer, the tables behind it, figures, and what was run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Template

from ..files import read_json, replacing
from .answer import most_cases
from .figures import draw_all, embedded, png
from .results import Results
from .run import DONE

TEMPLATE = Path(__file__).with_name("report.html")


def write_report(results: Results, folder: Path) -> Path:
    """report.html in `folder`, and its figures in `figures/`."""
    plan, summary = results.plan, json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    largest = most_cases(plan.settings.cases)
    figures = {name: png(figure) for name, figure in draw_all(results, summary, largest).items()}
    for old in (folder / "figures").glob("*.png"):
        old.unlink()
    for name, content in figures.items():
        with replacing(folder / "figures" / f"{name}.png") as beside:
            beside.write_bytes(content)
    page = Template(TEMPLATE.read_text(encoding="utf-8"), autoescape=True).render(
        answer=summary["answer"], summary=summary, arms=summary["labels"], largest=largest, metric=plan.recipe.metric,
        classes=class_rows(summary, largest), figures={name: embedded(content) for name, content in figures.items()},
        reconstructions=reconstructions(results), hours=hours(folder), shown=shown,
        choices=len(plan.choices()),
        sections=summary["sections"], bundle=plan.recipe.bundle.name,
        settings=json.dumps(summary["settings"], indent=1),
    )  # fmt: skip
    with replacing(folder / "report.html") as beside:
        beside.write_text(page, encoding="utf-8")
    return folder / "report.html"


def class_rows(summary: dict[str, Any], cases: int) -> list[tuple[str, dict[str, float]]]:
    """(class, {arm: score of the last weights}) with most labelled cases."""
    arms = [arm for arm in summary["arms"] if arm["cases"] == cases and arm["checkpoint"] == "last"]
    return [(name, {arm["arm"]: arm["classes"][name] for arm in arms}) for name in arms[0]["classes"]]


def reconstructions(results: Results) -> dict[str, str]:
    """What the first pre-training of each arm makes of an unseen image, as embedded pictures."""
    pictures = {}
    for setup in results.plan.gauged_setups():
        file = results.plan.path(results.plan.gauge(setup).name) / "reconstruction.png"
        if setup.arm not in pictures and file.is_file():
            pictures[setup.arm] = embedded(file.read_bytes())
    return pictures


def shown(value: float | None, form: str) -> str:
    """A number in a form such as "%.3f"; a dash where there is none."""
    return "-" if value is None else form % value


def hours(folder: Path) -> dict[str, float]:
    """Hours that each kind of run took, all of them together, as far as they ended where they began."""
    total: Counter[str] = Counter()
    for file in sorted((folder / "runs").glob(f"*/*/{DONE}")):
        total[file.parent.parent.name] += read_json(file)["seconds"] / 3600
    return dict(total)
