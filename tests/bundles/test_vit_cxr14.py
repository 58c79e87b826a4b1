"""The chest X-ray bundle from pre-training to inference, on phantoms in NIH's layout."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from custom.errors import find_input_error

from ..unit.test_radiographs import write_dicom
from .conftest import RunBundle

NAME = "vit_cxr14"


@pytest.fixture(scope="module")
def encoder(run_bundle: RunBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder pre-trained for two epochs, with the tables of the run beside it."""
    output = tmp_path_factory.mktemp("cxr_encoder")
    run_bundle(NAME, "train", "pretrain", output=output, max_epochs=2, monitor_interval=1, probe_interval=1)
    return output / "pretrained.pt"


@pytest.fixture(scope="module")
def model(run_bundle: RunBundle, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier fine-tuned from the encoder for two epochs."""
    output = tmp_path_factory.mktemp("cxr_model")
    run_bundle(NAME, "train", output=output, max_epochs=2, pretrained_weights=str(encoder))
    return output / "model.pt"


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_pretraining_reports_the_gate_and_a_linear_probe(encoder: Path) -> None:
    assert table(encoder.parent / "pretraining.csv")
    assert [row["epoch"] for row in table(encoder.parent / "probe.csv")] == ["0", "1", "2"]
    keys = torch.load(encoder, weights_only=True)["model"].keys()
    assert any(key.startswith("encoder.") for key in keys) and any(key.startswith("decoder.") for key in keys)


def test_pretraining_is_measured_and_pictured_on_images_it_has_not_seen(
    run_bundle: RunBundle, encoder: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    weights = {"checkpoint": str(encoder)}
    run_bundle(NAME, "train", "pretrain", "pretrain_evaluate", output=tmp_path, **weights)
    assert float(table(tmp_path / "reconstruction.csv")[0]["position_mean_loss"]) > 0
    run_bundle(NAME, "inference", "reconstruct", output=tmp_path, dataset_dir=str(images[NAME]), **weights)
    assert (tmp_path / "00000001_000_reconstruction.png").stat().st_size > 10_000


def test_pretraining_takes_a_plain_folder_without_labels(run_bundle: RunBundle, nih: Path, tmp_path: Path) -> None:
    folder = {"dataset_dir": shutil.copytree(nih / "images", tmp_path / "plain").as_posix()}
    run_bundle(NAME, "train", "pretrain", output=tmp_path, **folder, probe_interval=0)
    assert (tmp_path / "pretrained.pt").is_file() and not (tmp_path / "probe.csv").exists()


def test_evaluation_reports_all_findings_of_unseen_patients(
    run_bundle: RunBundle, model: Path, nih: Path, tmp_path: Path
) -> None:
    run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(model))
    assert len(table(tmp_path / "summary.csv")) == 14 + 1
    listed = (nih / "test_list.txt").read_text().split()
    assert [row["image"] + ".png" for row in table(tmp_path / "per_image.csv")] == sorted(listed)
    assert (tmp_path / "roc.png").is_file()


def test_images_without_any_finding_are_still_evaluated(
    run_bundle: RunBundle, model: Path, nih: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(nih, tmp_path / "data")
    lines = (nih / "Data_Entry_2017.csv").read_text().splitlines()
    healthy = [",".join([cells[0], "No Finding", *cells[2:]]) for cells in (line.split(",") for line in lines[1:])]
    (data / "Data_Entry_2017.csv").write_text("\n".join([lines[0], *healthy]))
    run_bundle(NAME, "train", "evaluate", output=tmp_path, dataset_dir=str(data), checkpoint=str(model))
    assert [row["in_mean"] for row in table(tmp_path / "summary.csv")] == ["False"] * 15


def test_a_linear_probe_is_one_config_away(run_bundle: RunBundle, encoder: Path, tmp_path: Path) -> None:
    run_bundle(NAME, "train", "evaluate", "linear_probe", output=tmp_path, pretrained_weights=str(encoder))
    assert len(table(tmp_path / "summary.csv")) == 14 + 1


def test_inference_of_a_file_and_a_folder(
    run_bundle: RunBundle, model: Path, nih: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in sorted((nih / "images").iterdir())[:3]:
        shutil.copy(path, folder)
    write_dicom(folder / "1.2.840.9", np.arange(48 * 48, dtype=np.uint16).reshape(48, 48))
    weights = {"checkpoint": str(model)}
    run_bundle(NAME, "inference", output=tmp_path / "one", dataset_dir=str(images[NAME]), finding="Edema", **weights)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "00000001_000_findings.json",
        "00000001_000_relevance.png",
        "predictions.csv",
    ]
    run_bundle(NAME, "inference", "batch_inference", output=tmp_path / "all", dataset_dir=str(folder), **weights)
    rows = table(tmp_path / "all" / "predictions.csv")
    first = json.loads((tmp_path / "one" / "00000001_000_findings.json").read_text())
    assert [row["image"] for row in rows] == sorted(path.name for path in folder.iterdir())
    assert all(float(rows[0][name]) == pytest.approx(value, abs=2e-3) for name, value in first["probabilities"].items())
    shutil.rmtree(tmp_path / "one")
    run_bundle(NAME, "inference", "batch_inference", output=tmp_path / "all", dataset_dir=str(folder), **weights)
    assert table(tmp_path / "all" / "predictions.csv") == rows  # nothing left to do


@pytest.mark.parametrize("options", [
    {"class_names": ["Effusion", "Other"]},
    {"in_channels": 3, "drop_last": True, "batch_size": 8},
    {"validation_fraction": 0.0, "keep_best": False},
])  # fmt: skip
def test_options_of_training(run_bundle: RunBundle, nih: Path, tmp_path: Path, options: dict) -> None:
    data = shutil.copytree(nih, tmp_path / "data")
    if "class_names" in options:
        lines = (nih / "Data_Entry_2017.csv").read_text().splitlines()
        cells = [line.split(",") for line in lines[1:]]
        changed = [",".join([c[0], "Effusion" if "Effusion" in c[1] else "Other", *c[2:]]) for c in cells]
        (data / "Data_Entry_2017.csv").write_text("\n".join([lines[0], *changed]))
    run_bundle(NAME, "train", output=tmp_path, dataset_dir=str(data), **options)
    head = torch.load(tmp_path / "model.pt", weights_only=True)["model"]["head.weight"]
    assert len(head) == len(options.get("class_names", range(14)))


def test_the_resolution_is_a_scalar(run_bundle: RunBundle, model: Path, tmp_path: Path) -> None:
    """Weights of 32 x 32 pixels evaluate at 48 x 48, and pre-trained ones fine-tune there."""
    run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(model), img_size=48)
    assert len(table(tmp_path / "summary.csv")) == 14 + 1
    with pytest.raises(Exception) as caught:
        run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(model), img_size=50)
    assert "img_size 50 is not a multiple of patch_size 8" in str(find_input_error(caught.value))


def test_faults_in_nihs_files_are_named_by_the_bundle(run_bundle: RunBundle, nih: Path, tmp_path: Path) -> None:
    cut = shutil.copytree(nih, tmp_path / "cut")
    name = (cut / "train_val_list.txt").read_text().split()[0]
    (cut / "images" / name).unlink()
    with pytest.raises(Exception) as caught:
        run_bundle(NAME, "train", output=tmp_path / "out", dataset_dir=str(cut))
    assert name in str(find_input_error(caught.value))
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.pt"))
