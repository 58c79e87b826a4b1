"""mae_pretrain_ct: pre-training, evaluation and reconstruction through the configs."""

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from .conftest import STOPPED, RunBundle


def test_pretraining_writes_weights_measurements_and_a_resumable_state(pretrained: Path) -> None:
    weights = torch.load(pretrained / "model.pt", weights_only=True)["model"]
    assert all(isinstance(value, torch.Tensor) for value in weights.values())
    rows = list(csv.DictReader((pretrained / "pretraining.csv").open()))
    assert len(rows) == 6  # six training cases, two a batch, two epochs, measured every iteration
    expected = {
        "masked_loss",
        "neighbour_mean_loss",
        "position_mean_loss",
        "flat_patch_loss",
        "masked_psnr",
        "masked_ssim",
    }
    expected |= {f"{name}_block_{index}" for name in ("rms", "rank") for index in range(3)}
    assert expected <= set(rows[0])
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert (pretrained / "last.pt").is_file()


def test_a_resumed_pretraining_equals_an_unbroken_one(run_bundle: RunBundle, pretrained: Path, tmp_path: Path) -> None:
    run_bundle("mae_pretrain_ct", "train", output=tmp_path, max_epochs=2, monitor_interval=1, save_interval=1)
    unbroken = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    half = tmp_path / "half"
    options = {"max_epochs": 2, "monitor_interval": 1, "save_interval": 1}
    run_bundle("mae_pretrain_ct", "train", output=half, **options, **STOPPED)
    run_bundle("mae_pretrain_ct", "train", output=half, **options, resume=True)
    resumed = torch.load(half / "model.pt", weights_only=True)["model"]
    assert all(torch.equal(unbroken[key], resumed[key]) for key in unbroken)
    assert (half / "pretraining.csv").read_text() == (tmp_path / "pretraining.csv").read_text()
    assert all(torch.equal(unbroken[key], value) for key, value in _weights(pretrained).items())


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model.pt", weights_only=True)["model"]


def test_evaluation_measures_unseen_cases(run_bundle: RunBundle, pretrained: Path, tmp_path: Path) -> None:
    run_bundle("mae_pretrain_ct", "train", "evaluate", output=tmp_path, checkpoint=str(pretrained / "model.pt"))
    rows = list(csv.DictReader((tmp_path / "reconstruction.csv").open()))
    assert len(rows) == 6  # the six test cases of the TransUNet split among the phantoms
    assert float(rows[0]["position_mean_loss"]) < 1.2  # learnt from the training cases before the first test case


def test_reconstruction_keeps_the_geometry_of_the_input(
    run_bundle: RunBundle, pretrained: Path, btcv: Path, tmp_path: Path
) -> None:
    source = btcv / "imagesTr" / "img0001.nii.gz"
    weights = str(pretrained / "model.pt")
    run_bundle("mae_pretrain_ct", "inference", output=tmp_path, dataset_dir=str(source), checkpoint=weights)
    image, out = nib.load(source), nib.load(tmp_path / "img0001_reconstruction.nii.gz")
    assert out.shape == image.shape and np.allclose(out.affine, image.affine)
    values = out.get_fdata()
    assert np.isfinite(values).all() and values.std() > 10  # HU, not a constant
    assert (tmp_path / "img0001_reconstruction.png").stat().st_size > 10_000


def test_pretraining_sees_no_labels(run_bundle: RunBundle, btcv: Path, tmp_path: Path) -> None:
    """A plain folder of images is enough; a run shorter than the monitor's interval is measured at its end."""
    run_bundle("mae_pretrain_ct", "train", output=tmp_path, dataset_dir=str(btcv / "imagesTr"))
    assert (tmp_path / "model.pt").is_file()
    assert len((tmp_path / "pretraining.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize("ratio", [0.125, [0.6, 0.9]])
def test_masking_ratio_is_one_scalar_or_a_range(run_bundle: RunBundle, tmp_path: Path, ratio: object) -> None:
    run_bundle("mae_pretrain_ct", "train", output=tmp_path, masking_ratio=ratio, foreground_masking=True)
    assert (tmp_path / "model.pt").is_file()
