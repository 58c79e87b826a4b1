"""How long runs are, in epochs and in FLOPs, so that arms can be given the same of either."""

from __future__ import annotations

from functools import cached_property
from math import ceil
from typing import Any

from .cases import CaseLists
from .flops import training_flops
from .recipe import batch_size, read_parser, samples
from .settings import PRETRAINED, Settings

KINDS = ("pretraining", "fine_tuning")


class Costs:
    """Of the runs of `settings` on the cases of `lists`. Iterations come in whole epochs, at least one."""

    def __init__(self, settings: Settings, lists: CaseLists) -> None:
        self.settings, self.lists, recipe = settings, lists, settings.recipe
        bundles = {"pretraining": recipe.pretraining_bundle, "fine_tuning": recipe.bundle}
        stems = {"pretraining": recipe.pretrain, "fine_tuning": ("train",)}
        self.parsers = {kind: read_parser(bundles[kind], stems[kind], settings.options(kind)) for kind in KINDS}

    @cached_property
    def step_flops(self) -> dict[str, float]:
        """FLOPs of an iteration of pre-training and of fine-tuning."""
        return {
            kind: training_flops(parser.get_parsed_content("network_def")) * batch_size(parser) * samples(parser)
            for kind, parser in self.parsers.items()
        }

    def iterations(self, kind: str, cases: int, seed: int) -> int:
        """Batches of an epoch."""
        whole = kind == "pretraining" and self.settings.pretrain_on == "all"
        return ceil(self.lists.count(0 if whole else cases, seed) / batch_size(self.parsers[kind]))

    def pretraining_epochs(self, cases: int, seed: int) -> int:
        """As near as whole epochs come to `pretraining_steps`."""
        return max(1, round(self.settings.pretraining_steps / self.iterations("pretraining", cases, seed)))

    def epochs(self, arm: str, cases: int, seed: int) -> int:
        """Of fine-tuning; scratch_long gets at least what pre-training, as it really runs, costs in addition."""
        length = self.iterations("fine_tuning", cases, seed)
        short = max(1, round(self.settings.steps / length))
        if arm != "scratch_long":
            return short
        pretraining = self.pretraining_epochs(cases, seed) * self.iterations("pretraining", cases, seed)
        extra = pretraining * self.step_flops["pretraining"] / self.step_flops["fine_tuning"]
        return short + ceil(extra / length)

    def work(self, kind: str, epochs: int, cases: int, seed: int) -> float:
        """FLOPs of so many epochs."""
        return epochs * self.iterations(kind, cases, seed) * self.step_flops[kind]

    def total(self, arm: str, cases: int, seed: int) -> dict[str, Any]:
        """Iterations and FLOPs that an arm gets, pre-training included."""
        epochs = self.epochs(arm, cases, seed)
        flops = self.work("fine_tuning", epochs, cases, seed)
        if arm in PRETRAINED:
            flops += self.work("pretraining", self.pretraining_epochs(cases, seed), cases, seed)
        return {"steps": epochs * self.iterations("fine_tuning", cases, seed), "flops": flops}
