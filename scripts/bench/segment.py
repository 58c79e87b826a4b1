"""Segment a CT of 512 x 512 x 128 voxels with a ViT-B UNETR, file to file.

Ours is inference.json of unetr_btcv; the baseline is zoo/segment.json with the same weights: the whole volume, windows
that overlap by half, four at a time, single precision, softmax, Invertd, argmax. The weights are the shipped ones,
widened to a ViT-B that computes the same (`widen`), so that labels are those of a trained network.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom.checkpoints import write_checkpoint
from custom.data.phantoms.ct import generate_ct

from .measure import ROOT, Measured, Row, alone, compare, run_command, take_turns
from .runtimes import shipped_network
from .widen import widen

BUNDLE, ZOO = ROOT / "bundles" / "unetr_btcv", Path(__file__).with_name("zoo") / "segment.json"
SHAPE, SPACING = (512, 512, 128), (0.75, 0.75, 2.5)
VIT_B = {"hidden_size": 768, "num_heads": 12, "feature_size": 16}


def measure(pairs: int) -> list[Row]:
    """Time and peak memory of both, and how far their labels agree."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image, weights = write_ct(folder / "ct.nii.gz"), write_weights(folder / "model.pt", VIT_B)
        measured = take_turns(
            lambda: ours(image, folder / "ours", weights, VIT_B),
            lambda: baseline(image, folder / "zoo", weights, VIT_B),
            pairs,
        )
        agreement = dice_of_labels(folder / "ours" / "ct_seg.nii.gz", folder / "zoo" / "ct_seg.nii.gz")
    names = ConfigParser.load_config_file(BUNDLE / "configs" / "inference.json")["class_names"]
    return [
        compare("segment a CT: time", "s", "s", measured, ">= 5"),
        compare("segment a CT: peak memory", "MiB", "MiB", measured, ">= 5"),
        *(
            alone(f"segment a CT: Dice of both outputs, {names[label - 1]}", "", [value], ">= 0.995")
            for label, value in agreement.items()
        ),
    ]


def write_ct(path: Path, slices: int = SHAPE[2]) -> Path:
    """A generated CT, cut or continued by itself to so many slices, as a file of int16."""
    image, _ = generate_ct(0, 0, SHAPE, SPACING)
    image = np.tile(image, (1, 1, -(-slices // SHAPE[2])))[..., :slices]
    nib.save(nib.Nifti1Image(image, np.diag([*SPACING, 1.0])), path)
    return path


def write_weights(path: Path, options: dict[str, int]) -> Path:
    """The shipped weights of unetr_btcv for a network with other `options`."""
    network = widen(shipped_network("unetr_btcv"), network_with(options))
    write_checkpoint({"model": network.state_dict()}, path)
    return path


def network_with(options: dict[str, int]) -> torch.nn.Module:
    """The untrained network of unetr_btcv with other `options`."""
    return parser_with(options).get_parsed_content("network_def")


def parser_with(options: dict[str, int]) -> ConfigParser:
    """inference.json of unetr_btcv with other `options`."""
    parser = ConfigParser()
    parser.read_config(BUNDLE / "configs" / "inference.json")
    parser.update(options)
    return parser


def ours(image: Path, output_dir: Path, weights: Path, options: dict[str, int]) -> Measured:
    """The bundle's inference with its defaults."""
    command = ["monai.bundle", "run", "--config_file", str(BUNDLE / "configs" / "inference.json")]
    command += ["--bundle_root", str(BUNDLE), "--dataset_dir", str(image), "--output_dir", str(output_dir)]
    command += ["--checkpoint", str(weights)]
    return run_command(command + [part for key, value in options.items() for part in (f"--{key}", str(value))])


def baseline(image: Path, output_dir: Path, weights: Path, options: dict[str, int]) -> Measured:
    """The same network in MONAI's own parts."""
    definition = image.with_name("network.json")
    definition.write_text(json.dumps({"network_def": resolved_network(options)}), encoding="utf-8")
    command = ["monai.bundle", "run", "--config_file", f"['{ZOO}','{definition}']", "--dataset_dir", str(image)]
    return run_command([*command, "--output_dir", str(output_dir), "--checkpoint", str(weights)])


def resolved_network(options: dict[str, int]) -> dict[str, Any]:
    """The definition of the network without references to the rest of its config."""
    parser = parser_with(options)
    definition = parser["network_def"]
    return {
        key: value if key == "_target_" else parser.get_parsed_content(f"network_def#{key}")
        for key, value in definition.items()
    }


def dice_of_labels(first: Path, second: Path) -> dict[int, float]:
    """Dice of every label that either of two label maps has."""
    one, other = (np.asarray(nib.load(path).dataobj) for path in (first, second))
    found = [int(label) for label in np.union1d(np.unique(one), np.unique(other)) if label]
    return {
        label: float(2 * ((one == label) & (other == label)).sum() / ((one == label).sum() + (other == label).sum()))
        for label in found
    }
