"""The answer in words, with everything that stands against it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..findings import LEAST_POSITIVES
from .choose import diverged, edges
from .curves import steps_to_reach
from .statistics import overall

if TYPE_CHECKING:
    from .results import Results

ENOUGH_SEEDS, ENOUGH_VALIDATION = 3, 10
NOTHING = 0.01  # a Dice below which a network has found nothing


def answer(results: Results) -> str:
    """What self pre-training changes with most labelled cases, against scratch and against scratch with its compute."""
    settings, cases = results.plan.settings, most_cases(results.plan.settings.cases)
    if "self" in settings.arms:
        said = [difference(results, cases), *verdict(results, cases), *speed(results, cases)]
    else:
        said = ["This comparison has no arm `self`, so no answer in words; its differences stand below."]
    return " ".join([*said, *doubts(results, cases)])


def most_cases(cases: tuple[int, ...]) -> int:
    """The largest of the numbers of cases, where 0 stands for all."""
    return 0 if 0 in cases else max(cases)


def difference(results: Results, cases: int) -> str:
    """The difference and its interval."""
    plan, count = results.plan, len(results.scores["self", cases, "last"][0].cases)
    noun = "images" if plan.recipe.classifies else "cases"
    seeds = f"{plan.settings.seeds} seed" + "s" * (plan.settings.seeds > 1)
    seen = plan.lists.count(0 if plan.settings.pretrain_on == "all" else cases, 0)
    return (
        f"On these {count} {plan.settings.section} {noun} self pre-training changes mean {plan.recipe.metric} by "
        f"{results.difference('self', cases)} ({seeds}, {plan.lists.count(cases, 0)} labelled {noun}, "
        f"{seen} pre-trained on)."
    )


def verdict(results: Results, cases: int) -> Iterator[str]:
    """Better, worse or not established; and the same against scratch with the compute of pre-training."""
    settings, found = results.plan.settings, results.difference("self", cases)
    if settings.seeds < ENOUGH_SEEDS:
        yield f"Fewer than {ENOUGH_SEEDS} seeds allow no verdict."
        return
    yield ("No change is established.", "It is better.", "It is worse.")[found.sign]
    if "scratch_long" in settings.arms:
        against = results.difference("self", cases, "scratch_long")
        words = ("no difference is established", "it is better", "it is worse")[against.sign]
        yield f"Against scratch with as much compute as pre-training took in addition: {against}, {words}."


def speed(results: Results, cases: int) -> Iterator[str]:
    """When it is as good as scratch ends, on validation."""
    if results.plan.settings.seeds < ENOUGH_SEEDS:
        return
    share = steps_to_reach(results.plan, results.choices, "self", cases)
    where = "On validation, all images pooled," if results.plan.recipe.classifies else "On validation"
    if np.isnan(share):
        yield f"{where} it ends below scratch's final value."
    else:
        yield (
            f"{where} it stays at or above scratch's final value from {100 * share:.0f} % of scratch's steps on, those "
            "of pre-training not counted."
        )


def doubts(results: Results, cases: int) -> Iterator[str]:
    """Whatever makes the comparison weaker than it looks."""
    if not results.plan.recipe.classifies:
        yield from nothing_found(results, cases)
    if results.plan.settings.section == "validation":
        yield "These cases chose the learning rates too, so this is no more than a hint."
    failed = [name for name, end in results.gates().items() if name.startswith("self_") and not end["passed"]]
    if failed:
        yield (
            f"In {len(failed)} of its pre-trainings the masked loss does not beat the trivial predictors on unseen "
            "images: they have not learnt context, so train longer before you conclude anything."
        )
    scored = results.scores["scratch", cases, "last"][0]
    if absent := int(np.isnan(scored.per_class()).sum()):
        yield (
            f"{absent} of {len(scored.classes)} classes never occur in the scored cases: are out_channels and "
            "class_names those of the labels?"
        )
    yield from controls(results, cases)
    for number in sorted(results.plan.settings.cases, key=lambda number: (number != cases, number)):
        yield from choices(results, number, "" if number == cases else f" with {number} labelled")
    yield from selection(results)
    yield from history(results)


def nothing_found(results: Results, cases: int) -> Iterator[str]:
    """Whether every segmentation is empty, or as good as that."""
    trained = [arm for arm in results.plan.settings.arms if arm != "pixels"]
    best = max(np.mean([overall(one) for one in results.scores[arm, cases, "last"]]) for arm in trained)
    if best < NOTHING:
        yield (
            f"But no fine-tuned network finds anything (mean Dice {best:.3f} at best), so this tells nothing: train "
            "longer."
        )


def history(results: Results) -> Iterator[str]:
    """What was done in this folder before, or otherwise."""
    if len(looks := results.looks()) > 1:
        yield f"Test cases were scored {len(looks)} times ({'; '.join(looks)}); a claim takes what was fixed before."
    if len(results.made_by()) > 1:
        yield f"The runs were made with {len(results.made_by())} versions of code or packages."


def choices(results: Results, cases: int, where: str) -> Iterator[str]:
    """What makes the choice of learning rates weak with a number of labelled cases."""
    plan, chosen = results.plan, [(arm, choice) for (arm, n), choice in results.choices.items() if n == cases]
    for what, word in (("learning_rate", "learning rate"), ("layer_decay", "layer decay")):
        if arms := [arm for arm, choice in chosen if what in edges(plan, choice)]:
            yield f"The best {word} of {', '.join(arms)}{where} ends what was tried: try more."
    if lost := diverged(plan, cases):
        yield f"Training diverged{where}, so that fewer choices were left: {', '.join(lost)}."


def selection(results: Results) -> Iterator[str]:
    """What makes the choice weak with any number of cases."""
    plan = results.plan
    validation = plan.lists.sections["validation"]
    if len(plan.choices()) == 1:
        yield "Only one learning rate was tried, which may suit one arm better than another."
    elif len(validation) < ENOUGH_VALIDATION:
        yield f"Only {len(validation)} validation cases chose the learning rates."
    elif plan.recipe.classifies and plan.lists.positives("validation") < LEAST_POSITIVES:
        yield f"Fewer than {LEAST_POSITIVES} images of any finding, or without it, chose the learning rates."


def controls(results: Results, cases: int) -> Iterator[str]:
    """What pixels and shuffled patches say against it."""
    arms = results.plan.settings.arms
    if "pixels" in arms and (sign := results.difference("scratch", cases, "pixels").sign) <= 0:
        found = "Scratch is worse than" if sign else "Scratch is not shown to be better than"
        yield f"{found} pixels without a network, so it may be trained too little to be a standard."
    if "scratch_long" in arms and results.difference("scratch_long", cases).mean <= 0:
        yield "Scratch with that compute ends no better than with less, so it has more than it can use."
    if "broken" in arms and "self" in arms and (sign := results.difference("self", cases, "broken").sign) <= 0:
        found = "It is worse than" if sign else "It is not shown to be better than"
        yield f"{found} pre-training on shuffled patches, so anatomy need not be what it learnt."
