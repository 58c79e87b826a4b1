"""Segment a CT of 512 x 512 x 128 voxels with a ViT-B UNETR, file to file.

Ours is inference.json of unetr_btcv; the baseline is zoo/inference.json with zoo/segment.json around the same network:
the whole volume, windows that overlap by half, four at a time, softmax, Invertd, argmax. Its "amp" is for CUDA alone,
so that on a CPU it is in single precision. The weights are the shipped ones, widened to a ViT-B that computes the same
(`widen`), so that labels are those of a trained network.
"""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from custom.checkpoints import write_checkpoint
from custom.data.phantoms.ct import generate_ct

from .configs import bundle_config, shipped_network
from .measure import ROOT, Measured, Row, alone, compare, run_command, take_turns
from .widen import widen

CONFIG, ZOO = ROOT / "bundles" / "unetr_btcv" / "configs" / "inference.json", Path(__file__).with_name("zoo")
SHAPE, SPACING = (512, 512, 128), (0.75, 0.75, 2.5)
VIT_B = {"hidden_size": 768, "num_heads": 12, "feature_size": 16}
FEWER = {"overlap": 0.25}
THEIRS = "MONAI's parts as in the zoo, overlap 0.5, around the same network in float32"
Options = dict[str, Any]


def measure(pairs: int) -> list[Row]:
    """Time and peak memory by default and with fewer windows, how many those are, and how far labels agree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, weights = write_ct(folder / "ct.nii.gz"), write_weights(folder / "model.pt", VIT_B)
        sides = {
            "ours": partial(ours, image, folder / "ours", weights, VIT_B),
            "fewer": partial(ours, image, folder / "fewer", weights, VIT_B | FEWER),
            THEIRS: partial(baseline, image, folder / "zoo", weights, VIT_B),
        }
        measured = take_turns(sides, pairs)
        labels = {side: folder / side / "ct_seg.nii.gz" for side in ("ours", "fewer", "zoo")}
        agreement, agreement_fewer = (dice_of_labels(labels[side], labels["zoo"]) for side in ("ours", "fewer"))
        windows = windows_of_sides(image)
    names, overlap = (bundle_config("unetr_btcv", "inference")[key] for key in ("class_names", "overlap"))
    default, fewer = f"segment a CT, overlap {overlap}", f"segment a CT, overlap {FEWER['overlap']} (fewer windows)"
    return [
        compare(f"{default}: time", "s", "s", measured, THEIRS, "times >= 5"),
        compare(f"{default}: peak memory", "MiB", "MiB", measured, THEIRS, "times >= 5"),
        compare(f"{fewer}: time", "s", "s", measured, THEIRS, ours="fewer"),
        compare(f"{fewer}: peak memory", "MiB", "MiB", measured, THEIRS, ours="fewer"),
        *(alone(f"segment a CT: windows, {side}", "windows", [count]) for side, count in windows.items()),
        *dice_rows(default, agreement, names, "ours >= 0.995"),
        *dice_rows(fewer, agreement_fewer, names),
    ]


def dice_rows(name: str, agreement: dict[int, float], names: list[str], goal: str = "") -> list[Row]:
    """A row an organ."""
    return [
        alone(f"{name}: Dice of both outputs, {names[label - 1]}", "", [value], goal)
        for label, value in agreement.items()
    ]


def write_ct(path: Path, slices: int = SHAPE[2]) -> Path:
    """A generated CT, cut or continued by itself to so many slices, as a file of int16."""
    image, _ = generate_ct(0, 0, SHAPE, SPACING)
    image = np.tile(image, (1, 1, -(-slices // SHAPE[2])))[..., :slices]
    nib.save(nib.Nifti1Image(image, np.diag([*SPACING, 1.0])), path)
    return path


def write_weights(path: Path, options: Options) -> Path:
    """The shipped weights of unetr_btcv for a network with other `options`."""
    large = bundle_config("unetr_btcv", "inference", **options).get_parsed_content("network_def")
    write_checkpoint({"model": widen(shipped_network("unetr_btcv"), large).state_dict()}, path)
    return path


def ours(image: Path, output_dir: Path, weights: Path, options: Options) -> Measured:
    """The bundle's inference with these options, else its defaults."""
    command = ["monai.bundle", "run", "--config_file", str(CONFIG), "--bundle_root", str(CONFIG.parents[1])]
    command += ["--dataset_dir", str(image), "--output_dir", str(output_dir), "--checkpoint", str(weights)]
    return run_command(command + [part for key, value in options.items() for part in (f"--{key}", str(value))])


def baseline(image: Path, output_dir: Path, weights: Path, options: Options) -> Measured:
    """The same network in MONAI's own parts."""
    files = str([str(file) for file in zoo_files(image.parent, options)])
    command = ["monai.bundle", "run", "--config_file", files, "--dataset_dir", str(image)]
    return run_command([*command, "--output_dir", str(output_dir), "--checkpoint", str(weights)])


def zoo_files(folder: Path, options: Options) -> list[Path]:
    """The baseline's configs; the last, in `folder`, holds the bundle's network, window, voxels and grey levels."""
    parser = bundle_config("unetr_btcv", "inference", **options)
    low, high = parser.get_parsed_content("intensity_range")
    values = {
        "network_def": resolved_network(parser),
        "inferer#roi_size": parser["img_size"],
        "preprocessing#transforms#3#pixdim": parser["spacing"],
        "preprocessing#transforms#4#a_min": low,
        "preprocessing#transforms#4#a_max": high,
    }
    (folder / "zoo.json").write_text(json.dumps(values), encoding="utf-8")
    return [ZOO / "inference.json", ZOO / "segment.json", folder / "zoo.json"]


def resolved_network(parser: ConfigParser) -> dict[str, Any]:
    """The definition of the network without references to the rest of its config."""
    return {
        key: value if key == "_target_" else parser.get_parsed_content(f"network_def#{key}")
        for key, value in parser["network_def"].items()
    }


def windows_of_sides(image: Path) -> dict[str, int]:
    """How many windows each side takes of the CT."""
    zoo = ConfigParser()
    zoo.read_config([str(file) for file in zoo_files(image.parent, {})])
    default, fewer = (bundle_config("unetr_btcv", "inference", **options) for options in ({}, FEWER))
    ways = {f"ours, overlap {parser['overlap']}": parser for parser in (default, fewer)} | {"MONAI's, overlap 0.5": zoo}
    for parser in ways.values():
        parser["dataset_dir"] = str(image)
    return {name: count_windows(parser) for name, parser in ways.items()}


def count_windows(parser: ConfigParser) -> int:
    """Windows of the config's inferer on its preprocessed image, without a network."""
    count = 0

    def network(windows: Tensor) -> Tensor:
        nonlocal count
        count += len(windows)
        return torch.zeros_like(windows)

    batch = next(iter(parser.get_parsed_content("dataloader")))
    parser.get_parsed_content("inferer")(batch["image"], network)
    return count


def dice_of_labels(first: Path, second: Path) -> dict[int, float]:
    """Dice of every label that either of two label maps has."""
    one, other = (np.asarray(nib.load(path).dataobj) for path in (first, second))
    found = [int(label) for label in np.union1d(np.unique(one), np.unique(other)) if label]
    return {
        label: float(2 * ((one == label) & (other == label)).sum() / ((one == label).sum() + (other == label).sum()))
        for label in found
    }
