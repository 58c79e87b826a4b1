"""unetr_btcv: fine-tuning, evaluation and segmentation through the configs."""

import csv
import logging
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from custom.errors import find_input_error

from .conftest import STOPPED, RunBundle


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_finetuning_starts_from_the_pretrained_encoder(
    run_bundle: RunBundle, pretrained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = str(pretrained / "model.pt")
    with caplog.at_level(logging.INFO, logger="custom.transfer"):
        run_bundle(
            "unetr_btcv", "train", output=tmp_path, pretrained_weights=weights, learning_rate=0.0, val_interval=1,
            logging_file=False,
        )  # fmt: skip
    before, after = _weights(pretrained / "model.pt"), _weights(tmp_path / "model.pt")
    encoder = [key for key in after if key.startswith("encoder.")]
    assert encoder and all(torch.equal(before[key], after[key]) for key in encoder)  # rate 0: as they were loaded
    assert any("blocks.0" in line for line in caplog.messages) and any("random" in line for line in caplog.messages)


def test_best_and_last_checkpoints_are_written(finetuned: Path) -> None:
    best, last = _weights(finetuned / "model.pt"), torch.load(finetuned / "last.pt", weights_only=True)
    assert best.keys() == last["model"].keys()
    assert last["run"]["epoch"] == 2


def test_a_resumed_run_equals_an_unbroken_one(run_bundle: RunBundle, tmp_path: Path) -> None:
    options = {"max_epochs": 2, "val_interval": 1}
    run_bundle("unetr_btcv", "train", output=tmp_path / "whole", **options)
    run_bundle("unetr_btcv", "train", output=tmp_path / "half", **options, **STOPPED)
    run_bundle("unetr_btcv", "train", output=tmp_path / "half", **options, resume=True)
    whole, resumed = _weights(tmp_path / "whole" / "last.pt"), _weights(tmp_path / "half" / "last.pt")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_early_stopping_ends_a_run_that_does_not_improve(run_bundle: RunBundle, tmp_path: Path) -> None:
    options = {"early_stop": True, "patience": 2, "learning_rate": 0.0, "val_interval": 1, "validation_cases": 1}
    run_bundle("unetr_btcv", "train", output=tmp_path, max_epochs=8, **options)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["run"]["epoch"] == 3


def test_evaluation_reports_every_case_and_organ_natively_and_as_published(
    run_bundle: RunBundle, finetuned: Path, tmp_path: Path
) -> None:
    run_bundle("unetr_btcv", "train", "evaluate", output=tmp_path, checkpoint=str(finetuned / "model.pt"))
    cases = list(csv.DictReader((tmp_path / "per_case.csv").open()))
    assert len(cases) == 6 * 13
    summary = list(csv.DictReader((tmp_path / "summary.csv").open()))
    names = {(row["metric"], row["organ"]) for row in summary}
    for metric in ("dice_native", "hd95_mm_native", "dice_resampled", "hd95_voxel_resampled"):
        assert (metric, "mean of 13") in names and (metric, "mean of 8 (published set)") in names
    dice = [float(row["dice_native"]) for row in cases if row["dice_native"]]
    assert dice and all(0 <= value <= 1 for value in dice)


def test_segmentation_gives_the_labels_that_evaluation_scores(
    run_bundle: RunBundle, tiny_weights: dict[str, Path], btcv: Path, tmp_path: Path
) -> None:
    """Evaluation keeps all scores, segmentation only those of a few rows; without bfloat16 both blend alike."""
    options = {"checkpoint": str(tiny_weights["unetr_btcv"]), "amp": False}
    run_bundle("unetr_btcv", "train", "evaluate", output=tmp_path, **options)
    cases = list(csv.DictReader((tmp_path / "per_case.csv").open()))
    for case in {row["case"] for row in cases}:
        image = btcv / "imagesTr" / f"{case}.nii.gz"
        run_bundle("unetr_btcv", "inference", output=tmp_path, dataset_dir=str(image), **options)
        found = np.asarray(nib.load(tmp_path / f"{case}_seg.nii.gz").dataobj)
        truth = np.asarray(nib.load(btcv / "labelsTr" / f"{case.replace('img', 'label')}.nii.gz").dataobj)
        scores = [float(row["dice_native"] or "nan") for row in cases if row["case"] == case]
        for label, score in enumerate(scores, 1):
            size = (found == label).sum() + (truth == label).sum()
            dice = 2 * ((found == label) & (truth == label)).sum() / size if (truth == label).any() else np.nan
            assert score == pytest.approx(dice, abs=1e-3, nan_ok=True)


def test_segmentation_has_the_shape_and_affine_of_each_input(
    run_bundle: RunBundle, tiny_weights: dict[str, Path], btcv: Path, tmp_path: Path
) -> None:
    """Any orientation and spacing, also smaller than the window; a folder of files."""
    source = nib.load(btcv / "imagesTr" / "img0002.nii.gz")
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    turned = source.as_reoriented(nib.io_orientation(np.diag([1, -1, -1, 1]) @ source.affine))
    nib.save(turned, inputs / "turned.nii.gz")
    nib.save(source.slicer[10:30, 10:30, 10:20], inputs / "small.nii.gz")
    weights = str(tiny_weights["unetr_btcv"])
    run_bundle("unetr_btcv", "inference", output=tmp_path / "out", dataset_dir=str(inputs), checkpoint=weights)
    for name in ("turned", "small"):
        image, label = nib.load(inputs / f"{name}.nii.gz"), nib.load(tmp_path / "out" / f"{name}_seg.nii.gz")
        assert label.shape == image.shape and np.allclose(label.affine, image.affine)
        assert label.get_data_dtype() == np.uint8 and np.asarray(label.dataobj).max() <= 13
        assert (tmp_path / "out" / f"{name}_overlay.png").is_file()


def test_batch_inference_leaves_finished_cases_alone(
    run_bundle: RunBundle, tiny_weights: dict[str, Path], btcv: Path, tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in (1, 2):
        shutil.copy(btcv / "imagesTr" / f"img000{number}.nii.gz", inputs)
    done = tmp_path / "out" / "img0001_seg.nii.gz"
    done.parent.mkdir()
    done.write_text("finished earlier")
    options = {"dataset_dir": str(inputs), "checkpoint": str(tiny_weights["unetr_btcv"])}
    for _ in range(2):  # the second run has nothing left to do
        run_bundle("unetr_btcv", "inference", "batch_inference", output=tmp_path / "out", **options)
    assert done.read_text() == "finished earlier"
    assert nib.load(tmp_path / "out" / "img0002_seg.nii.gz").shape == (44, 40, 38)
    assert not list((tmp_path / "out").glob("*.png"))


def test_weights_of_another_architecture_are_refused(
    run_bundle: RunBundle, pretrained: Path, btcv: Path, tmp_path: Path
) -> None:
    options = {"dataset_dir": str(btcv / "imagesTr"), "checkpoint": str(pretrained / "model.pt")}
    with pytest.raises(Exception) as caught:  # the config parser wraps it; the command line unwraps it
        run_bundle("unetr_btcv", "inference", output=tmp_path / "out", **options)
    assert "another architecture" in str(find_input_error(caught.value))
    assert not (tmp_path / "out").exists()
