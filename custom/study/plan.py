"""The runs of a comparison: each a command of a bundle with a file of overrides, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from math import ceil
from pathlib import Path
from typing import Any

from .cases import CaseLists
from .controls import block_size
from .flops import training_flops
from .recipe import batch_size, read_parser, samples
from .run import Run, Setup
from .settings import PRETRAINED, PROBE, Settings

READ = "custom.study.cases.read_items"
CHECKPOINTS = {"last": "last.pt", "best": "model.pt"}  # what is reported, and what validation liked best beside it
EVALUATION = 0.05  # the share of a fine-tuning that an evaluation is taken to last, until one was timed


class Plan:
    """All runs of `settings`, whose results go to `folder`."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder, self.recipe = settings, folder, settings.recipe
        self.lists = CaseLists(folder / "lists", settings)

    def path(self, name: str) -> Path:
        """The folder of a run."""
        return self.folder / "runs" / name

    # What a step is

    @cached_property
    def _pretraining(self) -> Any:
        options = {**self.settings.shared, **self.settings.pretraining}
        return read_parser(self.recipe.pretraining_bundle, self.recipe.pretrain, options)

    @cached_property
    def _fine_tuning(self) -> Any:
        options = {**self.settings.shared, **self.settings.fine_tuning}
        return read_parser(self.recipe.bundle, ("train",), options)

    @cached_property
    def step_flops(self) -> dict[str, float]:
        """FLOPs of an iteration of pre-training and of fine-tuning."""
        parsers = {"pretraining": self._pretraining, "fine_tuning": self._fine_tuning}
        return {
            name: training_flops(parser.get_parsed_content("network_def")) * batch_size(parser) * samples(parser)
            for name, parser in parsers.items()
        }

    def iterations_in_epoch(self, kind: str, cases: int, seed: int) -> int:
        """Batches an epoch."""
        parser = self._pretraining if kind == "pretraining" else self._fine_tuning
        whole = kind == "pretraining" and self.settings.pretrain_on == "all"
        return ceil(self.lists.count(0 if whole else cases, seed) / batch_size(parser))

    def steps(self, arm: str) -> float:
        """Iterations of fine-tuning, before they are rounded to epochs."""
        if arm != "scratch_long":
            return self.settings.steps
        price = self.step_flops["pretraining"] / self.step_flops["fine_tuning"]
        return self.settings.steps + self.settings.pretraining_steps * price

    # The runs

    def pretrainings(self) -> Iterator[Run]:
        """Of each arm that has one, for each seed, and for each number of cases where only those are seen."""
        for arm in (arm for arm in self.settings.arms if arm in PRETRAINED):
            for cases in self.settings.cases if self.settings.pretrain_on == "labelled" else (0,):
                yield from (self.pretraining(Setup(arm, cases, seed)) for seed in range(self.settings.seeds))

    def pretraining(self, setup: Setup) -> Run:
        """Masked autoencoding of the training images, without their labels."""
        name, length = f"pretraining/{setup}", self.iterations_in_epoch("pretraining", setup.cases, setup.seed)
        epochs = max(1, round(self.settings.pretraining_steps / length))
        overrides = {**self.settings.shared, **self.settings.pretraining, **self._common(name, setup.seed)}
        overrides |= {"max_epochs": epochs, "save_interval": max(1, epochs // 20)}
        overrides |= {"monitor_interval": max(1, epochs * length // 200)}
        overrides["train#data"] = {"_target_": READ, "path": str(self.lists.images(setup.cases, setup.seed))}
        if "probe" in self._pretraining.get():
            overrides["probe_interval"] = max(1, epochs // 4)
            overrides["probe#data"] = {"_target_": READ, "path": str(self.lists.labelled(0, 0))}
            overrides["validate#data"] = {"_target_": READ, "path": str(self.lists.section("validation"))}
        if setup.arm == "broken":
            overrides["+train#augmentation#transforms"] = [self._shuffle()]
        work = epochs * length * self.step_flops["pretraining"]
        return Run(name, self.recipe.pretraining_bundle, self.recipe.pretrain, overrides, work, epochs * length)

    def fine_tunings(self, first: bool) -> Iterator[tuple[Setup, Run]]:
        """Those of the first seed with every learning rate, or those of all other seeds, whose rate is still open."""
        for setup in self.setups():
            if (setup.seed == 0) == first:
                rates = self.settings.learning_rates if first else self.settings.learning_rates[:1]
                yield from ((setup, self.fine_tuning(setup, rate)) for rate in rates)

    def setups(self) -> Iterator[Setup]:
        """Every model that is fine-tuned."""
        for arm in (arm for arm in self.settings.arms if arm != "pixels"):
            for cases in self.settings.cases:
                yield from (Setup(arm, cases, seed) for seed in range(self.settings.seeds))

    def fine_tuning(self, setup: Setup, rate: float) -> Run:
        """The bundle's training, from the arm's weights."""
        name = f"fine_tuning/{setup}_rate{rate:g}"
        length = self.iterations_in_epoch("fine_tuning", setup.cases, setup.seed)
        epochs = max(1, round(self.steps(setup.arm) / length))
        weights, needs = self.weights(setup)
        overrides = {**self.settings.shared, **self.settings.fine_tuning, **self._common(name, setup.seed)}
        overrides |= {"max_epochs": epochs, "learning_rate": rate, "pretrained_weights": weights}
        overrides |= {"val_interval": max(1, epochs // self.settings.validations)}
        overrides |= self._lists(setup, "validation") | {"network_def": self.network(setup.arm, "@train#dataset")}
        work = epochs * length * self.step_flops["fine_tuning"]
        return Run(name, self.recipe.bundle, ("train",), overrides, work, epochs * length, needs)

    def weights(self, setup: Setup) -> tuple[str, tuple[str, ...]]:
        """The encoder that fine-tuning starts from, and the runs that make it."""
        if setup.arm not in PRETRAINED:
            return (self.settings.weights if setup.arm == "given" else ""), ()
        cases = setup.cases if self.settings.pretrain_on == "labelled" else 0
        name = f"pretraining/{Setup(setup.arm, cases, setup.seed)}"
        return str(self.path(name) / self.recipe.encoder), (name,)

    def network(self, arm: str, dataset: str | None = None) -> dict[str, Any]:
        """The config of the network of an arm; with a dataset, as it starts."""
        network = {"_target_": "custom.study.heads.fair_start", "network": self._fine_tuning.get("network_def")}
        network |= {"dataset": dataset} if dataset else {}
        if arm == "identity":
            return {"_target_": "custom.study.controls.without_blocks", "network": network}
        return network

    def evaluations(self, setup: Setup, rate: float) -> Iterator[Run]:
        """The last and the best weights of a fine-tuning on the cases that are scored."""
        source = self.fine_tuning(setup, rate)
        for checkpoint, file in CHECKPOINTS.items():
            name = f"evaluation/{source.name.partition('/')[2]}_{checkpoint}"
            overrides = {**self.settings.shared, **self.settings.fine_tuning, **self._common(name, setup.seed)}
            overrides |= {"checkpoint": str(self.path(source.name) / file), "network_def": self.network(setup.arm)}
            overrides |= self._lists(setup, self.settings.section)
            work = source.work * EVALUATION
            yield Run(name, self.recipe.bundle, ("train", "evaluate"), overrides, work, needs=(source.name,))

    def controls(self) -> Iterator[tuple[Setup, Run]]:
        """Pixels without a network, and frozen encoders below a linear map: fitted at once, evaluated like the rest."""
        frozen = [arm for arm in self.settings.arms if arm in ("scratch", "given", *PRETRAINED)]
        arms = [arm for arm in self.settings.arms if arm == "pixels"]
        arms += [f"{PROBE}{arm}" for arm in frozen] if self.settings.probe else []
        for arm in arms:
            for cases in self.settings.cases:
                for seed in range(self.settings.seeds):
                    setup = Setup(arm, cases, seed)
                    yield setup, self.control(setup)

    def control(self, setup: Setup) -> Run:
        """One of them."""
        name = f"evaluation/{setup}_last"
        overrides = {**self.settings.shared, **self.settings.fine_tuning, **self._common(name, setup.seed)}
        overrides |= self._lists(setup, self.settings.section) | {"network": "$@fitted.to(@device)"}
        needs: tuple[str, ...] = ()
        if self.recipe.classifies:
            overrides["train#dataset#augmentation"] = "@validate#augmentation"
            overrides["probe"] = {
                "_target_": "DataLoader",
                "dataset": "@train#dataset",
                "batch_size": "@val_batch_size",
            }
        if setup.arm == "pixels":
            overrides["fitted"] = self._fitted_pixels(setup.seed)
            overrides["validate#inferer"] = {"_target_": "SimpleInferer"}
        else:
            weights, needs = self.weights(setup._replace(arm=setup.arm.removeprefix(PROBE)))
            encoder = {"_target_": "custom.transfer.load_encoder", "network": "@network_def", "path": weights}
            overrides |= self._fitted_probe(encoder)
        return Run(name, self.recipe.bundle, ("train", "evaluate"), overrides, needs=needs)

    def _fitted_pixels(self, seed: int) -> dict[str, Any]:
        if self.recipe.classifies:
            return {
                "_target_": "custom.study.pixels.fit_thumbnails",
                "batches": "@probe",
                "device": "$torch.device('cpu')",
            }
        forest = {"_target_": "custom.study.pixels.fit_forest", "dataset": "@train#dataset", "seed": seed}
        return forest | {"num_classes": "@out_channels"}

    def _fitted_probe(self, encoder: dict[str, Any]) -> dict[str, Any]:
        if self.recipe.classifies:
            probe = {"_target_": "custom.probe.fit_head", "network": encoder, "batches": "@probe"}
            return {"fitted": probe | {"device": "$torch.device('cpu')"}}
        network = {**self._fine_tuning.get("network_def"), "_target_": "custom.study.light.LinearSegmenter"}
        probe = {"_target_": "custom.study.light.fit_probe", "network": encoder, "dataset": "@train#dataset"}
        return {"network_def": network, "fitted": probe}

    # What runs have in common

    def _common(self, name: str, seed: int) -> dict[str, Any]:
        folder = str(self.path(name))
        own = {"output_dir": folder, "ckpt_dir": folder, "cache_dir": str(self.folder / "cache"), "seed": seed}
        return own | {"dataset_dir": self.settings.dataset_dir, "save_execute_config": False}

    def _lists(self, setup: Setup, scored: str) -> dict[str, Any]:
        paths = {
            "train#data": self.lists.labelled(setup.cases, setup.seed),
            "validate#data": self.lists.section(scored),
        }
        return {key: {"_target_": READ, "path": str(path)} for key, path in paths.items()}

    def _shuffle(self) -> dict[str, Any]:
        encoder = self._pretraining.get_parsed_content("network_def").encoder
        block = block_size(encoder.img_size, encoder.patch_size)
        keys = {"keys": ["image", "valid"], "allow_missing_keys": True}
        return {"_target_": "custom.study.controls.ShuffleBlocksd", "block": block, **keys}
