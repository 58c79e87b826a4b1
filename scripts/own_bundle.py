"""A bundle of your own: one of these with your weights, classes and options as its defaults.

It needs none of them on the command line, so MONAI Label can serve it and others can run it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from custom.checkpoints import load_weights
from custom.errors import InputError, did_you_mean, explain_errors
from custom.transforms.tumour import names_of_numbers

from .bundle_files import copy_bundle
from .command_line import run_command_line

ROOT = Path(__file__).resolve().parent.parent
# docs and models tell of the shipped weights, the paper's configs of the paper.
LEFT_OUT = ("docs", "models", "*paper*.json")
SECTIONS = ("imports", "initialize", "run", "finalize", "handlers", "validate#handlers")
PATHS = ("bundle_root", "checkpoint", "pretrained_weights")
README = """# {name}

Made from `{bundle}` of the SelfMedMAE bundles with `{weights}` and the options {options}.

Replace this text by what you know of the weights: data and its licence, training, performance, limits.
"""


def own_bundle(bundle: str, output_dir: str, checkpoint: str, **options: Any) -> str:
    """Write the bundle `output_dir`; returns it.

    Args:
        bundle: the bundle to start from, such as unetr_btcv.
        output_dir: the new bundle's folder, named as the bundle shall be.
        checkpoint: weights trained with `options`.
        options: what was given to training, evaluation or inference: img_size, spacing, class_names, ...

    Raises:
        InputError: no such bundle, an option that none of its configs has, weights that do not fit, or a folder that
            exists.
    """
    source, target = ROOT / "bundles" / bundle, Path(output_dir)
    if not (source / "configs" / "metadata.json").is_file():
        raise InputError(f"bundle {bundle} does not exist; use one of the folders in {ROOT / 'bundles'}")
    if target.exists():
        raise InputError(f"{target} exists; remove it or give another output_dir")
    configs = set_options(source, with_classes(source, options))
    check_weights(configs["inference"], checkpoint)
    copy_bundle(source, target, LEFT_OUT)
    (target / "docs").mkdir()
    (target / "models").mkdir()
    shutil.copy(checkpoint, target / "models" / "model.pt")
    text = README.format(name=target.name, bundle=bundle, weights=Path(checkpoint).name, options=json.dumps(options))
    (target / "docs" / "README.md").write_text(text, encoding="utf-8")
    configs["metadata"] = metadata_of(source, target.name, configs["inference"])
    for name, config in configs.items():
        (target / "configs" / f"{name}.json").write_text(json.dumps(config, indent=4) + "\n", encoding="utf-8")
    return str(target)


def read(source: Path, name: str) -> dict[str, Any]:
    """A config of a bundle."""
    return json.loads((source / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def with_classes(source: Path, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with what follows from class names: the number of channels, and no subset that was published."""
    if paths := sorted(name for name in options if name.endswith("_dir") or name in PATHS):
        raise InputError(f"{paths[0]} belongs to this machine, not into a bundle; leave it out")
    inference = read(source, "inference")
    if "class_names" not in options:
        if options.get("out_channels", inference.get("out_channels")) != inference.get("out_channels"):
            names = "regions" if "regions" in inference else "class_names"
            raise InputError(f"out_channels says nothing about what the classes are called; give {names} instead")
        return options
    names = options["class_names"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names is {names!r}; give a list such as \"['liver','tumour']\"")
    if "out_channels" in inference:
        return options | {"out_channels": len(names) + 1, "published_classes": []}
    return options


def set_options(source: Path, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """All configs that have one of `options` at their top, with them set, and the inference config."""
    names = [path.stem for path in sorted((source / "configs").glob("*.json")) if "paper" not in path.stem]
    configs = {name: read(source, name) for name in names}
    keys = {key for config in configs.values() for key, value in config.items() if not isinstance(value, dict)}
    known = sorted(key for key in keys if "#" not in key and key not in SECTIONS and key not in PATHS)
    if unknown := sorted(set(options) - set(known)):
        hint = did_you_mean(unknown[0], known, f"its options are {', '.join(known)}")
        raise InputError(f"{source.name} has no option {unknown[0]}; {hint}")
    changed = {
        name: config | {key: options[key] for key in options if key in config} for name, config in configs.items()
    }
    return {name: config for name, config in changed.items() if config != configs[name] or name == "inference"}


def check_weights(config: dict[str, Any], checkpoint: str) -> None:
    """Load the weights into the network that the config describes."""
    network = ConfigParser(config).get_parsed_content("network_def")
    load_weights(network.to(torch.device("cpu")), checkpoint)


def metadata_of(source: Path, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The metadata of `source` for a bundle called `name` with this inference config."""
    metadata, parser = read(source, "metadata"), ConfigParser(config)
    metadata |= {"name": name, "version": "0.1.0", "changelog": {"0.1.0": f"first version, made from {source.name}"}}
    metadata |= {"data_source": "not stated", "intended_use": "Not stated; not a medical device."}
    formats = metadata["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    image["num_channels"] = parser.get_parsed_content("network_def#in_channels")
    if "contrasts" in config:
        image["channel_def"] = {str(index): name for index, name in enumerate(config["contrasts"])}
    size = parser.get_parsed_content("img_size")
    image["spatial_shape"] = size if isinstance(size, list) else [size] * len(image["spatial_shape"])
    pred["spatial_shape"] = image["spatial_shape"] if pred["spatial_shape"] else []
    if "class_names" in config:
        kind, names = pred["format"].replace("classes", "classification").capitalize(), config["class_names"]
        metadata["task"] = f"{kind} of {', '.join(names)}"
        names = ["background", *names] if "out_channels" in config else names
        name_channels(pred, names)
    if config.get("regions"):
        metadata["task"] = f"Segmentation of {', '.join(config['regions'])}"
        name_channels(pred, list(config["regions"]))
        numbers, label = names_of_numbers(config["regions"]), formats["post_processed_outputs"]["pred"]
        label["value_range"] = [0, max(numbers)]
        label["channel_def"] = {"0": "background"} | {str(number): numbers[number] for number in sorted(numbers)}
    return metadata | {"description": f"{metadata['task']}: {source.name} with weights of its own"}


def name_channels(pred: dict[str, Any], names: list[str]) -> None:
    """Set how many channels an output has and what they are."""
    pred["num_channels"], pred["channel_def"] = len(names), {str(index): name for index, name in enumerate(names)}


if __name__ == "__main__":
    explain_errors()
    run_command_line(own_bundle)
