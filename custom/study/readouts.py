"""What is fitted at once and evaluated like the rest: pixels without a network, frozen encoders below a linear map."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .arms import PROBE
from .costs import LIGHT
from .light import STEPS
from .plan import Plan
from .run import Run, Setup

LOADER = {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": "@val_batch_size"}


def readout_setups(plan: Plan) -> Iterator[Setup]:
    """Pixels, and an encoder of each kind that starts differently."""
    settings = plan.settings
    frozen = [arm for arm in settings.arms if arm in ("scratch", "given") or settings.pretrains(arm)]
    arms = [arm for arm in settings.arms if arm == "pixels"] + [f"{PROBE}{arm}" for arm in frozen if settings.probe]
    for arm in arms:
        for cases in settings.cases:
            yield from (Setup(arm, cases, seed) for seed in range(settings.seeds))


def readout(plan: Plan, setup: Setup, section: str) -> Run:
    """Fit to the labelled cases and evaluate on those of a section."""
    name = f"evaluation/{setup}_last_{section}"
    overrides = plan.common(name, "fine_tuning", setup.seed)
    overrides |= plan.data(plan.lists.labelled(setup.cases, setup.seed), section)
    overrides |= {"network": "$@fitted.to(@device)"}
    if plan.recipe.classifies:
        overrides |= {"train#dataset#augmentation": "@validate#augmentation", "labelled_images": LOADER}
    if setup.arm == "pixels":
        inferer = {"validate#inferer": {"_target_": "SimpleInferer"}}
        return evaluation(plan, setup, name, overrides | inferer | {"fitted": pixels(plan, setup.seed)})
    weights, needs = plan.weights(setup._replace(arm=setup.arm.removeprefix(PROBE)))
    encoder = {"_target_": "custom.transfer.load_encoder", "network": "$@network_def.to(@device)", "path": weights}
    return evaluation(plan, setup, name, overrides | probe(plan, encoder), needs)


def evaluation(plan: Plan, setup: Setup, name: str, overrides: dict[str, Any], needs: tuple[str, ...] = ()) -> Run:
    """The bundle's evaluation; fitting is taken to last as long as a fine-tuning."""
    work = plan.costs.work("fine_tuning", plan.costs.epochs(*setup._replace(arm="scratch")), setup.cases, setup.seed)
    return Run(name, plan.recipe.bundle, ("train", "evaluate"), overrides, work, needs)


def pixels(plan: Plan, seed: int) -> dict[str, Any]:
    """The control without a network."""
    if plan.recipe.classifies:
        return {"_target_": "custom.study.pixels.fit_thumbnails", "batches": "@labelled_images"}
    forest = {"_target_": "custom.study.pixels.fit_forest", "dataset": "@train#dataset", "seed": seed}
    return forest | {"num_classes": "@out_channels"}


def probe(plan: Plan, encoder: dict[str, Any]) -> dict[str, Any]:
    """A linear map on frozen tokens."""
    if plan.recipe.classifies:
        head = {"_target_": "custom.probe.fit_head", "network": encoder, "batches": "@labelled_images"}
        return {"fitted": head | {"device": "@device"}}
    network = {**plan.costs.parser("fine_tuning").get("network_def"), "_target_": LIGHT}
    fair = {"_target_": "custom.study.heads.fair_start", "network": network, "dataset": "@train#dataset"}
    fit = {"_target_": "custom.study.light.fit_probe", "network": encoder, "dataset": "@train#dataset"}
    return {"network_def": fair, "fitted": fit | {"loss": "@loss", "steps": min(STEPS, plan.settings.steps)}}
