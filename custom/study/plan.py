"""The runs of a comparison: each a bundle's config files with overrides, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ..checkpoints import write_checkpoint
from .cases import CaseLists
from .costs import Costs
from .recipe import read_parser
from .run import Choice, Run, Setup
from .settings import Settings

READ = "custom.study.cases.read_items"
CHECKPOINTS = {"last": "last.pt", "best": "model.pt"}  # what is reported, and what validation liked best beside it
EVALUATION = 0.05  # the share of a fine-tuning that an evaluation is taken to last
WARM_UP = 0.1  # share of a fine-tuning's iterations, in all arms


class Plan:
    """All runs of `settings`, whose results go to `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder, self.recipe = settings, folder, settings.recipe
        self.lists = CaseLists(folder / "lists", settings)
        self.costs = Costs(settings, self.lists)

    def path(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / name

    # Which models there are

    def setups(self) -> Iterator[Setup]:
        """Every model that is fine-tuned."""
        for arm in (arm for arm in self.settings.arms if arm != "pixels"):
            for cases in self.settings.cases:
                yield from (Setup(arm, cases, seed) for seed in range(self.settings.seeds))

    def pretrained_setups(self) -> Iterator[Setup]:
        """Every model that is pre-trained: one a seed, and one a number of cases where only those are seen."""
        for arm in (arm for arm in self.settings.arms if self.settings.pretrains(arm)):
            for cases in self.settings.cases if self.settings.pretrain_on == "labelled" else (0,):
                yield from (Setup(arm, cases, seed) for seed in range(self.settings.seeds))

    def gauged_setups(self) -> Iterator[Setup]:
        """Every pre-training of whole images; one of shuffled ones is no predictor of those it is measured on."""
        return (setup for setup in self.pretrained_setups() if setup.arm != "broken")

    def choices(self) -> list[Choice]:
        """What is tried with the first seed."""
        rates, decays = self.settings.learning_rates, self.settings.layer_decays
        return [Choice(rate, decay) for rate in rates for decay in decays]

    def weights(self, setup: Setup) -> tuple[str, tuple[str, ...]]:
        """The encoder that fine-tuning starts from, and the runs that make it."""
        if setup.arm == "given":
            return self.settings.weights, ()
        if not self.settings.pretrains(setup.arm):
            return str(self.initial_weights(setup.seed)), ()
        cases = setup.cases if self.settings.pretrain_on == "labelled" else 0
        name = f"pretraining/{setup._replace(cases=cases)}"
        return str(self.path(name) / self.recipe.encoder), (name,)

    def initial_weights(self, seed: int) -> Path:
        """An encoder as pre-training starts from it, for the arms without: all have the same kind of random weights."""
        return self.folder / "initial" / f"seed{seed}.pt"

    def write_initial_weights(self) -> None:
        """Make those that are not there yet."""
        options = self.settings.options("pretraining")
        for seed in [seed for seed in range(self.settings.seeds) if not self.initial_weights(seed).is_file()]:
            parser = read_parser(self.recipe.pretraining_bundle, self.recipe.pretrain, options)
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                network = parser.get_parsed_content("network_def")
            write_checkpoint({"model": network.state_dict()}, self.initial_weights(seed))

    # The runs

    def preparations(self) -> Iterator[Run]:
        """Fill the caches, so that runs side by side do not all do it."""
        for kind, bundle, stems in (
            ("pretraining", self.recipe.pretraining_bundle, self.recipe.pretrain),
            ("fine_tuning", self.recipe.bundle, ("train",)),
        ):
            name, images = f"preparation/{kind}", kind == "pretraining"
            training = self.lists.images(0, 0) if images else self.lists.labelled(0, 0)
            overrides = self.common(name, kind, 0) | self.data(training, None if images else "validation")
            datasets = ["$@train#dataset"] + ([] if images else ["$@validate#dataset"])
            yield Run(name, bundle, stems, overrides | {"initialize": [], "run": datasets, "finalize": []})

    def pretraining(self, setup: Setup) -> Run:
        """Masked autoencoding of the training images, without their labels."""
        name, arm, cases, seed = f"pretraining/{setup}", *setup
        epochs = self.costs.pretraining_epochs(cases, seed, arm)
        length = self.costs.iterations("pretraining", cases, seed, arm)
        parser = self.costs.parser("pretraining", arm).get()
        overrides = self.common(name, "pretraining", seed, arm)
        overrides |= self.data(self.lists.images(cases, seed), "validation" if "validate" in parser else None)
        overrides |= {"max_epochs": epochs, "save_interval": max(1, epochs // 20)}
        overrides |= {"monitor_interval": max(1, epochs * length // 200)}
        if "probe" in parser:
            overrides |= {"probe_interval": max(1, epochs // 4)}
            overrides |= {"probe#data": {"_target_": READ, "path": str(self.lists.labelled(0, 0))}}
        if arm == "broken":
            overrides["+train#augmentation#transforms"] = [self._shuffle()]
        work = self.costs.work("pretraining", epochs, cases, seed, arm)
        return Run(name, self.recipe.pretraining_bundle, self.recipe.pretrain, overrides, work)

    def gauge(self, setup: Setup) -> Run:
        """Masked loss and trivial predictors on validation images, which pre-training has not seen."""
        source, name = self.pretraining(setup), f"gauge/{setup}"
        overrides = self.common(name, "pretraining", setup.seed, setup.arm)
        overrides |= self.data(self.lists.images(setup.cases, setup.seed), "validation_images")
        overrides |= {"checkpoint": str(self.path(source.name) / self.recipe.encoder)}
        return Run(name, source.bundle, self.recipe.gauge, overrides, source.work * EVALUATION, (source.name,))

    def fine_tuning(self, setup: Setup, choice: Choice) -> Run:
        """The bundle's training, from the arm's weights."""
        name, epochs = f"fine_tuning/{setup}_{choice}", self.costs.epochs(*setup)
        weights, needs = self.weights(setup)
        overrides = self.common(name, "fine_tuning", setup.seed)
        overrides |= choice._asdict() | {"max_epochs": epochs, "pretrained_weights": weights}
        overrides |= {"val_interval": self.costs.val_interval(epochs)}
        steps = epochs * self.costs.iterations("fine_tuning", setup.cases, setup.seed)
        overrides |= {"lr_scheduler#warmup_steps": int(WARM_UP * steps)}
        overrides |= self.data(self.lists.labelled(setup.cases, setup.seed), "validation")
        overrides |= {"network_def": self.network(setup.arm, "@train#dataset")}
        work = self.costs.work("fine_tuning", epochs, setup.cases, setup.seed, setup.arm)
        return Run(name, self.recipe.bundle, ("train",), overrides, work, needs)

    def evaluation(self, setup: Setup, choice: Choice, checkpoint: str, section: str) -> Run:
        """The last or the best weights of a fine-tuning on the cases of a section."""
        source = self.fine_tuning(setup, choice)
        name = f"evaluation/{setup}_{choice}_{checkpoint}_{section}"
        overrides = self.common(name, "fine_tuning", setup.seed)
        overrides |= {"checkpoint": str(self.path(source.name) / CHECKPOINTS[checkpoint])}
        overrides |= {"network_def": self.network(setup.arm)}
        overrides |= self.data(self.lists.labelled(setup.cases, setup.seed), section)
        work = source.work * EVALUATION
        return Run(name, self.recipe.bundle, ("train", "evaluate"), overrides, work, (source.name,))

    # What their overrides are made of

    def common(self, name: str, kind: str, seed: int, arm: str = "self") -> dict[str, Any]:
        """Options, folders and seed."""
        folder = str(self.path(name))
        own = {"output_dir": folder, "ckpt_dir": folder, "cache_dir": str(self.folder / "cache"), "seed": seed}
        own |= {"dataset_dir": self.settings.dataset_dir, "save_execute_config": False}
        return {**self.settings.options(kind, arm), **own}

    def data(self, training: Path, scored: str | None) -> dict[str, Any]:
        """The lists that a run reads."""
        paths = {"train#data": training} | ({"validate#data": self.lists.section(scored)} if scored else {})
        return {key: {"_target_": READ, "path": str(path)} for key, path in paths.items()}

    def network(self, arm: str, dataset: str | None = None) -> dict[str, Any]:
        """The config of the network of an arm; with a dataset, as it starts."""
        network = self.costs.parser("fine_tuning").get("network_def")
        fair = {"_target_": "custom.study.heads.fair_start", "network": network}
        fair |= {"dataset": dataset} if dataset else {}
        if arm == "identity":
            return {"_target_": "custom.study.controls.without_blocks", "network": fair}
        return fair

    def _shuffle(self) -> dict[str, Any]:
        patch = self.costs.parser("pretraining").get_parsed_content("network_def").patch_size
        keys = {"keys": ["image", "valid"], "allow_missing_keys": True}
        return {"_target_": "custom.study.controls.ShuffleBlocksd", "block": patch, **keys}
