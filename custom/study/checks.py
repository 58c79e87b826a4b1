"""What a comparison refuses before anything runs: settings that make no sense, or would undo it unseen."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from monai.bundle import ConfigParser

from ..errors import InputError, sentence_of
from .arms import ARMS, PRETRAINED
from .recipe import check_options, read_parser

if TYPE_CHECKING:
    from .settings import Settings

WORDS = {"pretrain_on": ("all", "labelled"), "section": ("test", "validation"), "decoder": ("unetr", "light")}
# Options of the bundles that a comparison sets itself, wherever in a config they stand, and what to use instead.
FOLDERS = dict.fromkeys(("dataset_dir", "output_dir", "ckpt_dir", "cache_dir"), "give the command its own folders")
BOTH = FOLDERS | {"seed": "use seeds", "train#data": "use cases", "validate#data": "use section"}
BOTH |= {"data": "use cases and section", "train": "set parts of it", "train#trainer": "use its options"}
BOTH |= {"checkpoint": "leave it out", "early_stop": "all arms train to the end"}
BOTH |= dict.fromkeys(("resume", "save_execute_config", "keep_best"), "leave it out")
BOTH |= {"total_steps": "it follows from the steps", "warmup_steps": "it is a share of the steps"}
BOTH |= {"validate#preprocessing": "it follows train#preprocessing"}
# What all encoders of a comparison share; a variant that changed it would not fit, or fit and mean something else.
NETWORK = ("img_size", "patch_size", "hidden_size", "num_layers", "num_heads", "attention", "network_def")
IMAGES = ("spacing", "intensity_range", "contrasts", "in_channels", "resize", "normalise_crops")
CLASSES = ("class_names", "regions")
# Pre-training is given its images.
SECTIONS = ("split", "validation_cases", "validation_fraction", "test_fraction", "split_seed")
PREPROCESSING = "train#preprocessing"
LABELS_ONLY = ("keys", "allow_missing_keys", "num_classes")  # options of a transform that differ with labels
OWNED = {
    "pretraining": BOTH
    | {"max_epochs": "use pretraining_steps"}
    | dict.fromkeys(("save_interval", "monitor_interval", "probe_interval"), "it is a share of the steps"),
    "fine_tuning": BOTH
    | {"max_epochs": "use steps", "learning_rate": "use learning_rates", "layer_decay": "use layer_decays"}
    | {"val_interval": "use validations", "pretrained_weights": "use weights", "network_def": "use decoder"}
    | {"warmup_epochs": "it is a share of the steps", "lr_scheduler": "all arms have the same"}
    | {"optimizer": "use learning_rates and layer_decays, or parts of it"},
}
# What an encoder has to be trained and used with alike.
ALIKE = ("patch_size", "hidden_size", "num_layers", "num_heads")
ALIKE += ("spacing", "intensity_range", "contrasts", "resize", "normalise_crops")


def _check_variants(variants: Mapping[str, Mapping[str, Any]]) -> None:
    for name, options in variants.items():
        if name in ARMS or not re.fullmatch("[a-z][a-z0-9]*", name):
            raise InputError(f"variant {name!r} is a name of another arm or no word; use small letters and digits")
        if not isinstance(options, Mapping):
            raise InputError(f"variant {name!r} is {options!r}; give its options, such as {{'masking_ratio': 0.5}}")
        names = {key: plain(key) for key in options}
        fixed = (*NETWORK, *IMAGES, *CLASSES, *SECTIONS)
        shared = [key for key, name in names.items() if name.partition("#")[0] in fixed]
        if taken := shared + [key for key, name in names.items() if name.startswith(PREPROCESSING)]:
            raise InputError(f"variant {name!r} cannot set {taken[0]}, which all arms share; set it in shared")


def check(settings: Settings) -> None:
    """InputError for what cannot be compared."""
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


def plain(option: str) -> str:
    """An option as MONAI understands it, in the one way of writing it that is compared with others."""
    return option.lstrip("+").replace("::", "#")


def owned(kind: str, option: str) -> str:
    """What to use instead of an option that the comparison sets, or of a part of it; "" for any other."""
    option = plain(option)
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
    if taken := [name for name in SECTIONS if name in settings.pretraining]:
        raise InputError(f"pretraining cannot set {taken[0]}, as it sees the training images; set it in shared")
    if "pixels" in settings.arms and not recipe.classifies and find_spec("sklearn") is None:
        raise InputError("arm 'pixels' needs scikit-learn; pip install scikit-learn, or leave it out of arms")
    _check_alike(settings)
    evaluation = read_parser(recipe.bundle, ("train", "evaluate"), settings.options("fine_tuning"))
    try:
        evaluation.get_parsed_content("validate#handlers")  # they refuse classes that do not fit each other
    except Exception as error:  # of MONAI, or of whatever the bundle's expressions run
        fault = sentence_of(error) or f"validate#handlers of {recipe.bundle} cannot be made ({error!r}); repair them"
        raise InputError(fault) from error


def _check_alike(settings: Settings) -> None:
    recipe = settings.recipe
    before = read_parser(recipe.pretraining_bundle, recipe.pretrain, settings.options("pretraining")).get()
    after = read_parser(recipe.bundle, ("train",), settings.options("fine_tuning")).get()
    for name in ALIKE:
        if name in before and name in after and before[name] != after[name]:
            raise InputError(
                f"{name} is {before[name]} in pre-training and {after[name]} in fine-tuning, which an encoder does not "
                "survive; set it in shared"
            )
    if (first := image_transforms(before)) != (second := image_transforms(after)):
        raise InputError(
            f"images are preprocessed by {first} in pre-training and by {second} in fine-tuning, which an encoder does "
            f"not survive; set the same {PREPROCESSING} in both"
        )


def image_transforms(config: Mapping[str, Any]) -> list[Any]:
    """What a config does to images, but for what concerns their labels."""
    transforms = ConfigParser(dict(config)).get(f"{PREPROCESSING}#transforms", [])
    of_images = [one for one in transforms if isinstance(one, Mapping) and "image" in str(one.get("keys"))]
    changing = [one for one in of_images if one["_target_"] != "SelectItemsd"]
    return [{key: value for key, value in one.items() if key not in LABELS_ONLY} for one in changing]
