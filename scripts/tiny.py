"""Every combination of a bundle's configs, small enough to run in about a second on generated images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from monai.bundle import ConfigParser

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.cxr_files import write_nih
from custom.data.phantoms.mr import write_msd
from custom.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
NETWORK: dict[str, Any] = {
    "img_size": [32, 32, 32], "patch_size": 8, "hidden_size": 24, "num_layers": 3, "num_heads": 2,
}  # fmt: skip
DECODER = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
SPACING = {"spacing": [8.0, 8.0, 8.0]}
TINY = {
    "mae_pretrain_ct": NETWORK | DECODER | SPACING,
    "unetr_btcv": NETWORK | SPACING | {"feature_size": 4},
    "unetr_brats": NETWORK | DECODER | SPACING | {"feature_size": 4},
    "vit_cxr14": NETWORK | DECODER | {"img_size": 32},
}
QUICK = {"num_workers": 0, "max_epochs": 1, "warmup_epochs": 0}
LAYOUTS = {"mae_pretrain_ct": "btcv", "unetr_btcv": "btcv", "unetr_brats": "msd", "vit_cxr14": "nih"}
IMAGES = {
    "btcv": "imagesTr/img0001.nii.gz", "msd": "imagesTr/BRATS_001.nii.gz", "nih": "images/00000001_000.png",
}  # fmt: skip
COMBINATIONS = (
    "train",
    "train paper",
    "train pretrain",
    "train pretrain paper paper_pretrain",
    "train pretrain pretrain_evaluate",
    "train evaluate",
    "train evaluate paper",
    "train evaluate linear_probe",
    "inference",
    "inference paper",
    "inference batch_inference",
    "inference reconstruct",
    "inference inference_trt",
    "inference batch_inference inference_trt",
    "train multi_gpu_train",  # last, because ignite remembers that a process was one of several
    "train pretrain multi_gpu_train",
    "train evaluate multi_gpu_evaluate",
)


class Combination(NamedTuple):
    """Config files that are given together, by stem."""

    files: tuple[str, ...]

    @property
    def kind(self) -> str:
        """MONAI's type of the workflow they make."""
        return "train" if self.files[0] == "train" else "infer"

    def __str__(self) -> str:
        return "+".join(self.files)


def combinations(bundle: str | Path) -> list[Combination]:
    """Those combinations whose files the bundle has, each the order its documentation gives."""
    known = [Combination(tuple(line.split())) for line in COMBINATIONS]
    return [one for one in known if all(config.is_file() for config in config_files(bundle, one.files))]


def config_files(bundle: str | Path, stems: Sequence[str]) -> list[Path]:
    """The bundle's config files of these stems."""
    return [Path(bundle) / "configs" / f"{stem}.json" for stem in stems]


def layout_of(name: str) -> str:
    """Which of `IMAGES` the bundle `name` reads; InputError if nobody has said so yet."""
    if name not in LAYOUTS:
        raise InputError(f"bundle {name} has no layout of data and no tiny size; add both to scripts/tiny.py")
    return LAYOUTS[name]


def write_data(layout: str, folder: Path) -> Path:
    """Phantoms in one of `LAYOUTS` in `folder`: 12 CTs, 10 MRs, or the chest X-rays of 40 patients."""
    if layout == "btcv":  # numbered 1-10, 21, 22: six train and six test in the TransUNet split
        write_btcv(folder, 12, shape=(44, 40, 38), spacing=(9.0, 8.5, 8.0), workers=2)
    elif layout == "msd":  # eight train and two test in fold 0 of 5
        write_msd(folder, 10, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    else:  # ten patients test
        write_nih(folder, 40, shape=(48, 48))
    return folder


def write_weights(name: str, stems: Sequence[str], path: Path) -> Path:
    """Random weights of the `network_def` that these configs of the bundle `name` make at tiny size."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in config_files(ROOT / "bundles" / name, stems)])
    parser.update(TINY[name])
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": parser.get_parsed_content("network_def").state_dict()}, path)
    return path


def options_of(name: str, combination: Combination, data: Path, weights: Path, output: Path) -> dict[str, Any]:
    """Options that run a combination of the bundle `name` on the phantoms in `data`; all it writes goes to `output`."""
    inference = combination.kind == "infer"
    image = data / IMAGES[layout_of(name)]
    own: dict[str, Any] = {"dataset_dir": str(image if inference else data), "output_dir": str(output)}
    if not inference:
        own |= {"cache_dir": str(output / "cache"), "ckpt_dir": str(output)} | QUICK
    if "paper" in combination.files:
        own |= {"batch_size": 4}  # there are six training cases
    start = {"pretrained_weights": ""} if "linear_probe" in combination.files else {"checkpoint": str(weights)}
    return own | start | TINY[name]
