"""A real four-contrast MR goes through every config of the brain tumour bundle."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "unetr_brats"

pytestmark = [pytest.mark.sample_data, pytest.mark.slow]


def run_real(*configs: str, **options: object) -> None:
    run(config_file=[str(ROOT / "configs" / f"{name}.json") for name in configs], bundle_root=str(ROOT), **options)


def test_real_mr_is_pretrained_on_finetuned_on_evaluated_and_segmented(sample_data: Path, tmp_path: Path) -> None:
    """At the default geometry and size; the label map's numbers are those of the case's own layout."""
    case = sample_data / "brats" / "BraTS2021_00006"
    out = {"output_dir": str(tmp_path), "ckpt_dir": str(tmp_path)}
    data = {"dataset_dir": str(case.parent), "cache_dir": str(tmp_path / "cache"), "split": "all", "num_workers": 0}
    once = {"max_epochs": 1, "warmup_epochs": 0}
    encoder, model = str(tmp_path / "pretrained.pt"), str(tmp_path / "model.pt")

    run_real("train", "pretrain", **data, **out, max_epochs=3, warmup_epochs=0)
    assert len((tmp_path / "pretraining.csv").read_text().splitlines()) == 2
    run_real("inference", "reconstruct", dataset_dir=str(case), checkpoint=encoder, output_dir=str(tmp_path))
    assert (tmp_path / "BraTS2021_00006_reconstruction.png").is_file()

    run_real("train", **data, **out, **once, validation_cases=0, pretrained_weights=encoder)
    evaluation = data | {"checkpoint": model, "output_dir": str(tmp_path), "validation_cases": 0}
    run_real("train", "evaluate", **evaluation)
    rows = list(csv.DictReader((tmp_path / "per_case.csv").open()))
    assert [row["organ"] for row in rows] == ["TC", "WT", "ET"] and all(row["dice_native"] for row in rows)

    run_real("inference", dataset_dir=str(case), checkpoint=model, output_dir=str(tmp_path))
    label, image = nib.load(tmp_path / "BraTS2021_00006_pred.nii.gz"), nib.load(case / "flair.nii.gz")
    assert label.shape == image.shape and np.allclose(label.affine, image.affine)
    assert label.get_data_dtype() == np.uint8 and set(np.unique(label.dataobj)) <= {0, 1, 2, 4}
