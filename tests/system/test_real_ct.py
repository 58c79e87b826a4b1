"""A real abdominal CT goes through every config of the CT bundles."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run

ROOT = Path(__file__).resolve().parents[2]
COARSE = {
    "spacing": [4.0, 4.0, 4.0],
    "img_size": [64, 64, 64],
}  # the default network on fewer patches: seconds, not minutes

pytestmark = [pytest.mark.sample_data, pytest.mark.slow]


@pytest.fixture(scope="module")
def ct(sample_data: Path) -> Path:
    return sample_data / "btcv_layout"


def run_real(name: str, *configs: str, **options: object) -> None:
    root = ROOT / "bundles" / name
    files = [str(root / "configs" / f"{config}.json") for config in configs]
    run(config_file=files, bundle_root=str(root), **(COARSE | options))


def same_grid(path: Path, other: Path) -> bool:
    first, second = nib.load(path), nib.load(other)
    return first.shape == second.shape and np.allclose(first.affine, second.affine)


def test_real_ct_is_pretrained_on_finetuned_on_evaluated_and_segmented(ct: Path, tmp_path: Path) -> None:
    folder = {"dataset_dir": str(ct), "cache_dir": str(tmp_path / "cache"), "split": "all", "num_workers": 0}
    once = {"max_epochs": 1, "warmup_epochs": 0, "validation_cases": 0, "val_interval": 1}
    out = {"output_dir": str(tmp_path / "out"), "ckpt_dir": str(tmp_path)}
    image = ct / "imagesTr" / "img0001.nii.gz"

    pretraining = {key: value for key, value in once.items() if "val" not in key}
    run_real("mae_pretrain_ct", "train", **folder, **pretraining, **out, monitor_interval=1, batch_size=1)
    encoder = str(tmp_path / "model.pt")
    run_real(
        "mae_pretrain_ct", "inference", dataset_dir=str(image), checkpoint=encoder, output_dir=str(tmp_path / "out")
    )
    assert same_grid(tmp_path / "out" / "img0001_reconstruction.nii.gz", image)

    out["ckpt_dir"] = str(tmp_path / "unetr")
    run_real("unetr_btcv", "train", **folder, **once, **out, pretrained_weights=encoder)
    checkpoint = str(tmp_path / "unetr" / "model.pt")
    evaluation = folder | {"checkpoint": checkpoint, "output_dir": str(tmp_path / "out"), "validation_cases": 0}
    run_real("unetr_btcv", "train", "evaluate", **evaluation)
    rows = list(csv.DictReader((tmp_path / "out" / "per_case.csv").open()))
    assert len(rows) == 13 and sum(bool(row["dice_native"]) for row in rows) == 12  # the oesophagus is not in view

    run_real("unetr_btcv", "inference", dataset_dir=str(image), checkpoint=checkpoint, output_dir=str(tmp_path / "out"))
    assert same_grid(tmp_path / "out" / "img0001_seg.nii.gz", image)


def test_shipped_weights_run_at_their_own_resolution_on_a_real_ct(ct: Path, tmp_path: Path) -> None:
    """Only that it runs and keeps the geometry: the weights come from generated images."""
    image = ct / "imagesTr" / "img0001.nii.gz"
    root = ROOT / "bundles" / "unetr_btcv"
    options = {"dataset_dir": str(image), "output_dir": str(tmp_path), "overlap": 0.25}
    run(config_file=str(root / "configs" / "inference.json"), bundle_root=str(root), **options)
    assert same_grid(tmp_path / "img0001_seg.nii.gz", image)
    assert nib.load(tmp_path / "img0001_seg.nii.gz").get_data_dtype() == np.uint8
