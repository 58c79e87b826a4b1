"""What is compared, on what, and for how long: the options of a comparison, from the command line or a file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError, did_you_mean, sentence_of
from ..files import read_json
from .recipe import Recipe, check_options, find_recipe, read_parser

ARMS = {
    "scratch": "from scratch",
    "self": "self pre-trained",
    "scratch_long": "from scratch, same compute",
    "broken": "pre-trained on shuffled patches",
    "pixels": "pixels, no network",
    "identity": "from scratch, no transformer",
    "given": "weights from elsewhere",
}
PROBE = "probe_"  # begins the name of an arm's frozen encoder
PRETRAINED = ("self", "broken")
WORDS = {"pretrain_on": ("all", "labelled"), "section": ("test", "validation"), "decoder": ("unetr", "light")}
# Options of the bundles that a comparison sets itself, wherever in a config they stand, and what to use instead.
FOLDERS = dict.fromkeys(("dataset_dir", "output_dir", "ckpt_dir", "cache_dir"), "give the command its own folders")
BOTH = FOLDERS | {"seed": "use seeds", "train#data": "use cases", "validate#data": "use section"}
BOTH |= {"checkpoint": "leave it out", "early_stop": "all arms train to the end"}
BOTH |= {"total_steps": "it follows from the steps", "warmup_steps": "it is a share of the steps"}
# What all encoders of a comparison share; a variant that changed it would not fit, or fit and mean something else.
NETWORK = ("img_size", "patch_size", "hidden_size", "num_layers", "num_heads", "attention", "network_def")
IMAGES = ("spacing", "intensity_range", "contrasts", "in_channels", "resize", "split", "class_names", "regions")
OWNED = {
    "pretraining": BOTH | {"max_epochs": "use pretraining_steps"},
    "fine_tuning": BOTH
    | {"max_epochs": "use steps", "learning_rate": "use learning_rates", "layer_decay": "use layer_decays"}
    | {"val_interval": "use validations", "pretrained_weights": "use weights", "network_def": "use decoder"}
    | {"warmup_epochs": "it is a share of the steps"},
}
DEFAULT_ARMS = ("scratch", "self", "scratch_long", "broken", "pixels")


@dataclass(frozen=True)
class Settings:
    """One comparison.

    Args:
        bundle: the task bundle that fine-tunes and evaluates.
        dataset_dir: the images and labels; several folders where the bundle takes several.
        arms: which of `ARMS`; scratch is always among them.
        cases: numbers of labelled training cases, 0 for all of them.
        seeds: repetitions; seed s chooses the labelled cases, the initial weights and the order of the data, the same
            for all arms.
        pretraining_steps, steps: iterations of pre-training and of fine-tuning.
        learning_rates, layer_decays: tried for every arm and number of cases with the first seed; validation chooses.
        validations: how often a fine-tuning is validated, about, as its epochs allow.
        decoder: of a segmentation, the bundle's "unetr", or "light", a linear map that hides nothing of the encoder.
        pretrain_on: "all" training images, or only the "labelled" ones.
        probe: whether frozen encoders are read by a linear map as well.
        weights: an encoder from elsewhere, for the arm `given`.
        variants: further arms, by name: options of pre-training in which they differ from the arm `self`.
        section: which cases are scored, "test", or "validation" while a recipe is still being sought.
        shared, pretraining, fine_tuning: options of all runs, and of those that pre-train, and fine-tune or evaluate.
    """

    bundle: str
    dataset_dir: str | Sequence[str]
    arms: tuple[str, ...] = DEFAULT_ARMS
    cases: tuple[int, ...] = (0,)
    seeds: int = 3
    pretraining_steps: int = 10_000
    steps: int = 1_000
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    layer_decays: tuple[float, ...] = (1.0, 0.75)
    validations: int = 10
    decoder: str = "unetr"
    pretrain_on: str = "all"
    probe: bool = True
    weights: str = ""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    section: str = "test"
    shared: Mapping[str, Any] = field(default_factory=dict)
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    fine_tuning: Mapping[str, Any] = field(default_factory=dict)

    def options(self, kind: str, arm: str = "self") -> dict[str, Any]:
        """Options of the bundles in runs that pre-train an arm ("pretraining"), or fine-tune or evaluate any."""
        if kind == "pretraining":
            return {**self.shared, **self.pretraining, **self.variants.get(arm, {})}
        return {**self.shared, **self.fine_tuning}

    def pretrains(self, arm: str) -> bool:
        """Whether an arm begins with masked autoencoding."""
        return arm in PRETRAINED or arm in self.variants

    def label(self, arm: str) -> str:
        """What an arm is called in a report."""
        if arm.startswith(PROBE):
            bare = arm.removeprefix(PROBE)
            return "random, frozen" if bare == "scratch" else f"{self.label(bare)}, frozen"
        return ARMS.get(arm) or f"self pre-trained, {arm}"

    @property
    def recipe(self) -> Recipe:
        """How the bundle does it."""
        return find_recipe(self.bundle)


def _case_count(value: Any) -> int:
    return 0 if str(value).strip() == "all" else int(value)


def _flag(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError(value)
    return str(value).lower() == "true"


SINGLES = dict.fromkeys(("seeds", "pretraining_steps", "steps", "validations"), int) | {"probe": _flag}
LISTS = {"arms": str, "cases": _case_count, "learning_rates": float, "layer_decays": float}

OBJECTS = {"variants": {"half": {"masking_ratio": 0.5}}}
OBJECTS |= {name: {"batch_size": 1} for name in ("shared", "pretraining", "fine_tuning")}


def read_settings(file: str | Path | None = None, **given: Any) -> Settings:
    """Settings from a JSON file with `given` ones in their place; InputError for any that makes no sense.

    Of options and variants, which have names of their own, those given join those of the file.
    """
    content = _read(Path(file)) if file else {}
    for key, value in given.items():
        if value is not None:
            joins = key in OBJECTS and isinstance(value, Mapping) and isinstance(content.get(key), Mapping)
            content[key] = {**content[key], **value} if joins else value
    known = {one.name for one in fields(Settings)}
    if unknown := sorted(set(content) - known):
        options = "options of the bundle go into shared, pretraining or fine_tuning"
        hint = did_you_mean(unknown[0], known, f"use {', '.join(sorted(known))}; {options}")
        raise InputError(f"setting {unknown[0]!r} is unknown; {hint}")
    if missing := [name for name in ("bundle", "dataset_dir") if not content.get(name)]:
        raise InputError(f"no {missing[0]} is given; set --{missing[0]}")
    for name, convert in LISTS.items():
        if name in content:
            content[name] = _sequence(content[name], convert, name)
    for name, convert in SINGLES.items():
        if name in content:
            content[name] = _single(content[name], convert, name)
    for name, example in OBJECTS.items():
        if not isinstance(content.get(name, {}), Mapping):
            raise InputError(f"{name} is {content[name]!r}; give names with what belongs to them, such as {example}")
    if not isinstance(content.get("weights", ""), str):
        raise InputError(f"weights is {content['weights']!r}; give the path of a file")
    content["arms"] = tuple(dict.fromkeys((*content.get("arms", DEFAULT_ARMS), *content.get("variants", {}))))
    settings = Settings(**content)
    _check(settings)
    return settings


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"settings file {file} does not exist; correct its path")
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} is no JSON object; write it as {{'bundle': ..., 'dataset_dir': ...}}")
    return content


def _sequence(value: Any, convert: Any, name: str) -> tuple[Any, ...]:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    try:
        return tuple(dict.fromkeys(convert(part) for part in parts))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} {value!r} is no list that fits; separate its members by commas") from error


def _single(value: Any, convert: Any, name: str) -> Any:
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} is {value!r}; set it to something like {getattr(Settings, name)!r}") from error


def _check_variants(variants: Mapping[str, Mapping[str, Any]]) -> None:
    for name, options in variants.items():
        if name in ARMS or not re.fullmatch("[a-z][a-z0-9]*", name):
            raise InputError(f"variant {name!r} is a name of another arm or no word; use small letters and digits")
        if not isinstance(options, Mapping):
            raise InputError(f"variant {name!r} is {options!r}; give its options, such as {{'masking_ratio': 0.5}}")
        if taken := [key for key in options if key.partition("#")[0] in (*NETWORK, *IMAGES)]:
            raise InputError(f"variant {name!r} cannot set {taken[0]}, which all arms share; set it in shared")


def _check(settings: Settings) -> None:
    unknown = [arm for arm in settings.arms if arm not in ARMS and arm not in settings.variants]
    if unknown or "scratch" not in settings.arms:
        fault = f"arm {unknown[0]!r} is unknown" if unknown else "arm 'scratch' is missing, which all are compared with"
        raise InputError(f"{fault}; choose among {', '.join(ARMS)}")
    if "given" in settings.arms and not Path(settings.weights).is_file():
        raise InputError(f"arm 'given' needs weights, and {settings.weights!r} is no file; set --weights")
    _check_variants(settings.variants)
    if "scratch_long" in settings.arms and not set(PRETRAINED) & set(settings.arms):
        raise InputError("arm 'scratch_long' gets the compute of pre-training; add arm 'self'")
    for name in ("seeds", "pretraining_steps", "steps", "validations"):
        if getattr(settings, name) < 1:
            raise InputError(f"{name} is {getattr(settings, name)}; set it to 1 or more")
    numbers = settings.learning_rates + settings.layer_decays
    if not all(0 < number < math.inf for number in numbers) or min(settings.cases, default=-1) < 0 or not numbers:
        raise InputError("learning_rates and layer_decays must be above 0, cases numbers or 'all'; give one at least")
    for name, choices in WORDS.items():
        if getattr(settings, name) not in choices:
            raise InputError(f"{name} {getattr(settings, name)!r} is unknown; use one of {', '.join(choices)}")
    _check_options(settings)


def owned(kind: str, option: str) -> str:
    """What to use instead of an option that the comparison sets, or of a part of it; "" for any other."""
    names = (option, option.rpartition("#")[2], "#".join(option.split("#")[:2]))
    return next((OWNED[kind][name] for name in names if name in OWNED[kind]), "")


def _check_options(settings: Settings) -> None:
    recipe = settings.recipe
    if recipe.classifies and settings.decoder == "light":
        raise InputError("decoder 'light' is for segmentation, a classifier's head is linear already; leave it out")
    trained = [("pretraining", arm, recipe.pretraining_bundle, recipe.pretrain) for arm in ("self", *settings.variants)]
    for kind, arm, bundle, stems in (*trained, ("fine_tuning", "", recipe.bundle, ("train", "evaluate"))):
        options = settings.options(kind, arm)
        check_options(options, bundle, stems)
        if taken := [(name, remedy) for name in options if (remedy := owned(kind, name))]:
            raise InputError(f"{kind} cannot set {taken[0][0]}, which the comparison does; {taken[0][1]}")
    evaluation = read_parser(recipe.bundle, ("train", "evaluate"), settings.options("fine_tuning"))
    try:
        evaluation.get_parsed_content("validate#handlers")  # they refuse classes that do not fit each other
    except Exception as error:  # of MONAI, or of whatever the bundle's expressions run
        fault = sentence_of(error) or f"validate#handlers of {recipe.bundle} cannot be made ({error!r}); repair them"
        raise InputError(fault) from error
