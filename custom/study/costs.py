"""How long runs are, in epochs and in FLOPs, so that arms can be given the same of either."""

from __future__ import annotations

from functools import cache
from math import ceil
from typing import Any

from ..errors import InputError
from .cases import CaseLists
from .controls import without_blocks
from .flops import training_flops
from .recipe import batch_size, drops_last, read_parser, samples
from .settings import Settings

LIGHT = "custom.study.light.LinearSegmenter"  # what `decoder: light` trains in place of the bundle's network


class Costs:
    """Of the runs of `settings` on the cases of `lists`. Iterations come in whole epochs, at least one."""

    def __init__(self, settings: Settings, lists: CaseLists) -> None:
        self.settings, self.lists, self.recipe = settings, lists, settings.recipe
        self.parser, self.image_flops = cache(self.parser), cache(self.image_flops)  # asked for by every run

    def parser(self, kind: str, arm: str = "self") -> Any:
        """The config of a run that pre-trains an arm, or fine-tunes any."""
        if kind == "pretraining":
            return read_parser(self.recipe.pretraining_bundle, self.recipe.pretrain, self.settings.options(kind, arm))
        decoder = {"network_def#_target_": LIGHT} if self.settings.decoder == "light" else {}
        return read_parser(self.recipe.bundle, ("train",), self.settings.options(kind) | decoder)

    def image_flops(self, kind: str, arm: str = "self") -> float:
        """FLOPs of training on an image, or on all crops of a case."""
        parser = self.parser(kind, arm)
        network = parser.get_parsed_content("network_def")
        return training_flops(without_blocks(network) if arm == "identity" else network) * samples(parser)

    def images(self, kind: str, cases: int, seed: int, arm: str = "self") -> int:
        """How many images or cases an epoch takes: all, or those that fill batches where others are dropped."""
        whole = kind == "pretraining" and self.settings.pretrain_on == "all"
        count, parser = self.lists.count(0 if whole else cases, seed), self.parser(kind, arm)
        batch = batch_size(parser)
        if drops_last(parser) and count < batch:
            raise InputError(f"{kind} drops its only batch, {count} of {batch} images; lower batch_size")
        return count - count % batch if drops_last(parser) else count

    def iterations(self, kind: str, cases: int, seed: int, arm: str = "self") -> int:
        """Batches of an epoch; the last may be smaller."""
        return ceil(self.images(kind, cases, seed, arm) / batch_size(self.parser(kind, arm)))

    def pretraining_epochs(self, cases: int, seed: int, arm: str = "self") -> int:
        """As near as whole epochs come to `pretraining_steps`."""
        return max(1, round(self.settings.pretraining_steps / self.iterations("pretraining", cases, seed, arm)))

    def epochs(self, arm: str, cases: int, seed: int) -> int:
        """Of fine-tuning, so many that the last is validated.

        scratch_long gets at least what pre-training, as it really runs, costs beyond the fine-tuning of the others.
        """
        epochs = self._validated(max(1, round(self.settings.steps / self.iterations("fine_tuning", cases, seed))))
        if arm != "scratch_long":
            return epochs
        pretraining = self.work("pretraining", self.pretraining_epochs(cases, seed), cases, seed)
        return self._validated(epochs + ceil(pretraining / self.work("fine_tuning", 1, cases, seed)))

    def _validated(self, epochs: int) -> int:
        """At least as many, of which the last is validated."""
        interval = self.val_interval(epochs)
        return ceil(epochs / interval) * interval

    def val_interval(self, epochs: int) -> int:
        """Epochs from one validation to the next, of which there are no more than `validations`."""
        return ceil(epochs / self.settings.validations)

    def work(self, kind: str, epochs: int, cases: int, seed: int, arm: str = "self") -> float:
        """FLOPs of so many epochs."""
        return epochs * self.images(kind, cases, seed, arm) * self.image_flops(kind, arm)

    def total(self, arm: str, cases: int, seed: int) -> dict[str, Any]:
        """Iterations and FLOPs that an arm gets, pre-training included."""
        epochs = self.epochs(arm, cases, seed)
        flops = self.work("fine_tuning", epochs, cases, seed, arm)
        if self.settings.pretrains(arm):
            flops += self.work("pretraining", self.pretraining_epochs(cases, seed, arm), cases, seed, arm)
        return {"steps": epochs * self.iterations("fine_tuning", cases, seed), "flops": flops}
