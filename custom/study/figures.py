"""Figures of a comparison, as pictures for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ..pretraining import TRIVIAL
from .arms import ARMS
from .curves import curves_of, mean_curve, read_monitor
from .results import Results

COLOURS = dict(zip(ARMS, ("#b3541e", "#1f5fa8", "#e0a458", "#7a4fa3", "#777777", "#3a8a5f", "#c2457d"), strict=True))
MORE = ("#17becf", "#8c564b", "#bcbd22", "#e377c2", "#222222", "#a05195")
NAMES = ("mean of visible neighbours", "training mean at that position", "flat patch")  # of the trivial predictors


def embedded(png: bytes) -> str:
    """Base64, as pages take it."""
    return base64.b64encode(png).decode()


def png(figure: Figure) -> bytes:
    """The content of a file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, bbox_inches="tight", format="png")
    return buffer.getvalue()


def draw_all(results: Results, summary: Mapping[str, Any], cases: int) -> dict[str, Figure]:
    """Every figure that the comparison has data for, by name; learning curves with so many labelled cases."""
    figures = {"curves": draw_curves(results, cases)}
    if any(results.plan.pretrained_setups()):
        figures["pretraining"] = draw_pretraining(results)
    if len(results.plan.settings.cases) > 1:
        figures["cases"] = draw_cases(summary)
    return figures


def colour(variants: Mapping[str, Any], arm: str) -> str:
    """The same in all figures; more variants than colours begin again."""
    return COLOURS.get(arm) or MORE[list(variants).index(arm) % len(MORE)]


def draw_curves(results: Results, cases: int) -> Figure:
    """Validation score against iterations of fine-tuning: each seed thin, their mean bold."""
    plan, figure = results.plan, Figure(figsize=(7, 4))
    axes = figure.subplots()
    for arm in [arm for arm in plan.settings.arms if arm != "pixels"]:
        curves = curves_of(plan, results.choices, arm, cases)
        for steps, values in curves:
            axes.plot(steps, values, color=colour(plan.settings.variants, arm), lw=0.6, alpha=0.5)
        mean, label = mean_curve(curves), plan.settings.label(arm)
        axes.plot(*mean, ".-", color=colour(plan.settings.variants, arm), lw=2, label=label)  # dots: one may be all
    axes.set(xlabel="iterations of fine-tuning", ylabel=f"mean {plan.recipe.metric} on validation cases", xscale="log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_cases(summary: Mapping[str, Any]) -> Figure:
    """Score of the last weights and its interval against the number of labelled cases."""
    figure, settings = Figure(figsize=(7, 4)), summary["settings"]
    axes = figure.subplots()
    rows = sorted((row for row in summary["arms"] if row["checkpoint"] == "last"), key=itemgetter("labelled"))
    for place, arm in enumerate(settings["arms"]):
        points = [[row[name] for name in ("labelled", "mean", "low", "high")] for row in rows if row["arm"] == arm]
        x, mean, low, high = np.array(points, dtype=float).T
        axes.errorbar(
            x * 1.02**place,  # so that bars do not hide each other
            mean, [mean - low, high - mean], fmt="o-", capsize=2, lw=1,
            color=colour(settings.get("variants", {}), arm), label=summary["labels"][arm],
        )  # fmt: skip
    ticks = sorted({row["labelled"] for row in rows})
    axes.set(xlabel="labelled cases", ylabel=f"mean {summary['metric']}, 95 % interval", xscale="log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=8)
    return figure


def draw_pretraining(results: Results) -> Figure:
    """Masked loss beside the trivial predictors, and effective ranks, of each arm's first pre-training."""
    first, settings = {}, results.plan.settings
    for setup in results.plan.pretrained_setups():
        if setup.arm not in first:
            first[setup.arm] = read_monitor(results.plan.path(results.plan.pretraining(setup).name))
    figure = Figure(figsize=(10, 3.6 * len(first)))
    grid = figure.subplots(len(first), 2, squeeze=False)
    for (loss, rank), (arm, columns) in zip(grid, first.items(), strict=True):
        steps = columns["iteration"]
        loss.plot(steps, columns["masked_loss"], label="masked autoencoder", lw=2, color=colour(settings.variants, arm))
        for column, name in zip(TRIVIAL, NAMES, strict=True):
            loss.plot(steps, columns[column], label=name, lw=1)
        learnt = [columns[column][len(steps) // 10 :] for column in ("masked_loss", *TRIVIAL)]
        loss.set_ylim(top=1.1 * np.max(learnt))  # what comes before would hide their differences
        loss.set(xlabel="iteration", title=f"{settings.label(arm)}: masked loss")
        loss.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False)
        for name in [name for name in columns if name.startswith("rank_block")]:
            rank.plot(steps, columns[name], label=name.removeprefix("rank_").replace("_", " "), lw=1)
        rank.set(xlabel="iteration", title=f"{settings.label(arm)}: effective rank of each block", ylim=(0, None))
        rank.legend(frameon=False, fontsize=7, ncols=2)
    figure.tight_layout()
    return figure
