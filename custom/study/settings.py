"""What is compared, on what, and for how long: the options of a comparison, from the command line or a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..errors import InputError, did_you_mean
from ..files import read_json
from .arms import ARMS, DEFAULT_ARMS, PRETRAINED, PROBE
from .checks import check
from .recipe import Recipe, find_recipe


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


def _whole(value: Any) -> int:
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _case_count(value: Any) -> int:
    return 0 if str(value).strip() == "all" else _whole(value)


def _flag(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError(value)
    return str(value).lower() == "true"


SINGLES = dict.fromkeys(("seeds", "pretraining_steps", "steps", "validations"), _whole) | {"probe": _flag}
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
    for name in ("bundle", "dataset_dir"):
        content[name] = _absolute(content[name])
    content["arms"] = tuple(dict.fromkeys((*content.get("arms", DEFAULT_ARMS), *content.get("variants", {}))))
    settings = Settings(**content)
    check(settings)
    return settings


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise InputError(f"settings file {file} does not exist; correct its path")
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} is no JSON object; write it as {{'bundle': ..., 'dataset_dir': ...}}")
    return content


def _absolute(places: Any) -> Any:
    """Folders, so that one is the same however it is written."""
    if isinstance(places, list | tuple):
        return [_absolute(place) for place in places]
    return str(Path(places).absolute()) if isinstance(places, str) else places


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
