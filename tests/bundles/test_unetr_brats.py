"""unetr_brats: its own pre-training, fine-tuning, evaluation and segmentation through the configs."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow

from custom.data.phantoms.mr import write_brats
from custom.errors import find_input_error
from scripts.tiny import QUICK, ROOT, TINY

from .conftest import RunBundle

NAME = "unetr_brats"


@pytest.fixture(scope="module")
def encoder(run_bundle: RunBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder after one epoch of pre-training."""
    output = tmp_path_factory.mktemp("encoder")
    run_bundle(NAME, "train", "pretrain", output=output, monitor_interval=1)
    return output / "pretrained.pt"


@pytest.fixture(scope="module")
def model(run_bundle: RunBundle, encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model after one epoch of fine-tuning."""
    output = tmp_path_factory.mktemp("model")
    run_bundle(NAME, "train", output=output, pretrained_weights=str(encoder))
    return output / "model.pt"


def scores(folder: Path) -> dict[tuple[str, str], float]:
    with (folder / "summary.csv").open() as file:
        return {(row["metric"], row["organ"]): float(row["mean"] or "nan") for row in csv.DictReader(file)}


def test_pretraining_reads_no_label_and_reconstructs_unseen_cases(
    run_bundle: RunBundle, encoder: Path, msd: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    assert torch.load(encoder, weights_only=True)["model"]["encoder.patch_embed.proj.weight"].shape[1] == 4
    bare = shutil.copytree(msd, tmp_path / "bare", ignore=shutil.ignore_patterns("labelsTr"))
    run_bundle(NAME, "train", "pretrain", output=tmp_path / "out", dataset_dir=str(bare))
    weights = {"checkpoint": str(encoder)}
    run_bundle(NAME, "train", "pretrain", "pretrain_evaluate", output=tmp_path / "out", **weights)
    assert len((tmp_path / "out" / "reconstruction.csv").read_text().splitlines()) == 1 + 2
    image = {"dataset_dir": str(images[NAME])}
    run_bundle(NAME, "inference", "reconstruct", output=tmp_path / "out", **weights, **image)
    assert (tmp_path / "out" / "BRATS_001_reconstruction.png").stat().st_size > 10_000


def test_evaluation_scores_three_regions_natively_and_as_published(
    run_bundle: RunBundle, model: Path, tmp_path: Path
) -> None:
    run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(model))
    found = scores(tmp_path)
    assert {organ for _, organ in found} == {"TC", "WT", "ET", "mean of 3"}
    assert {metric for metric, _ in found} == {
        "dice_native",
        "hd95_mm_native",
        "dice_resampled",
        "hd95_voxel_resampled",
    }
    assert len((tmp_path / "per_case.csv").read_text().splitlines()) == 1 + 2 * 3


def test_own_contrasts_and_regions_are_options(run_bundle: RunBundle, tmp_path: Path) -> None:
    """A folder a channel, no brain, and label 7 for a lesion."""
    rng = np.random.default_rng(0)
    for number in range(5):
        label = np.zeros((20, 22, 24), np.float32)
        label[8:14, 8:14, 8:14] = 7
        volumes = {"CT": rng.normal(40, 9, label.shape), "PET": rng.random(label.shape), "label": label}
        for name, volume in volumes.items():
            (tmp_path / name).mkdir(exist_ok=True)
            file = nib.Nifti1Image(volume.astype(np.float32), np.diag([2.0, 2, 2, 1]))
            nib.save(file, tmp_path / name / f"case{number}.nii.gz")
    own = {"contrasts": ["CT", "PET"], "regions": {"lesion": [7]}, "output": tmp_path / "out"}
    run_bundle(NAME, "train", dataset_dir=str(tmp_path), **own)
    weights = {"checkpoint": str(tmp_path / "out" / "model.pt")}
    run_bundle(NAME, "train", "evaluate", dataset_dir=str(tmp_path), **own, **weights)
    assert ("dice_native", "lesion") in scores(tmp_path / "out")
    run_bundle(NAME, "inference", dataset_dir=str(tmp_path), **own, **weights)
    assert len(list((tmp_path / "out").glob("*_overlay.png"))) == 5
    written = np.asarray(nib.load(tmp_path / "out" / "case4_pred.nii.gz").dataobj)
    assert written.shape == (20, 22, 24) and set(np.unique(written)) <= {0, 7}


def test_a_withheld_contrast_changes_the_scores(run_bundle: RunBundle, model: Path, tmp_path: Path) -> None:
    for name, withheld in (("all", []), ("without", "FLAIR")):
        run_bundle(NAME, "train", "evaluate", output=tmp_path / name, checkpoint=str(model), withhold=withheld)
    assert scores(tmp_path / "all") != scores(tmp_path / "without")
    with pytest.raises(Exception) as caught:
        run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(model), withhold="T3")
    assert "FLAIR, T1w, T1gd, T2w" in str(find_input_error(caught.value))


@pytest.mark.parametrize("options", [
    {"contrast_dropout": 1.0},
    {"normalise_crops": True, "published_et": True, "val_interval": 1},
])  # fmt: skip
def test_options_of_training(run_bundle: RunBundle, tmp_path: Path, options: dict) -> None:
    run_bundle(NAME, "train", output=tmp_path, **options)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    if "published_et" in options:
        run_bundle(NAME, "train", "evaluate", output=tmp_path, checkpoint=str(tmp_path / "model.pt"), **options)


@pytest.mark.parametrize("year", [2021, 2023])
def test_folders_of_contrasts_train_and_are_segmented_with_their_own_numbers(
    run_bundle: RunBundle, model: Path, year: int, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    write_brats(data, 5, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1, year=year)
    folder = {"dataset_dir": str(data)}
    run_bundle(NAME, "train", "pretrain", output=tmp_path / "mae", **folder)
    run_bundle(NAME, "train", output=tmp_path, **folder, validation_cases=1)
    run_bundle(NAME, "train", "evaluate", output=tmp_path, **folder, checkpoint=str(tmp_path / "model.pt"))
    run_bundle(NAME, "inference", output=tmp_path / "out", **folder, checkpoint=str(model))
    outputs = sorted((tmp_path / "out").glob("*_pred.nii.gz"))
    assert [path.name.removesuffix("_pred.nii.gz") for path in outputs] == sorted(case.name for case in data.iterdir())
    source = nib.load(next(iter(data.glob(f"*/*{'_flair' if year == 2021 else '-t2f'}.nii.gz"))))
    for path in outputs:
        label = nib.load(path)
        assert label.shape == source.shape and np.allclose(label.affine, source.affine)
        assert label.get_data_dtype() == np.uint8
        assert set(np.unique(label.dataobj)) <= ({0, 1, 2, 4} if year == 2021 else {0, 1, 2, 3})
    run_bundle(NAME, "inference", "batch_inference", output=tmp_path / "out", **folder, checkpoint=str(model))


def test_a_missing_contrast_and_a_swapped_order_are_named(
    run_bundle: RunBundle, msd: Path, brats: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(brats, tmp_path / "cut")
    (cut / "BraTS2021_00002" / "BraTS2021_00002_t1ce.nii.gz").unlink()
    swapped = shutil.copytree(msd, tmp_path / "swapped")
    content = json.loads((swapped / "dataset.json").read_text())
    content["modality"] = {"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"}
    (swapped / "dataset.json").write_text(json.dumps(content))
    for folder, words in (
        (cut, "BraTS2021_00002 has no file of contrast T1gd"),
        (swapped, "reorder the contrasts to FLAIR, T1w"),
    ):
        with pytest.raises(Exception) as caught:
            run_bundle(NAME, "train", output=tmp_path / "out", dataset_dir=str(folder))
        assert words in str(find_input_error(caught.value))
        assert not (tmp_path / "out" / "model.pt").exists()


def test_normalisation_is_the_same_on_every_path(run_bundle: RunBundle, msd: Path, tmp_path: Path) -> None:
    """Each path's image has mean 0 and standard deviation 1 over its tissue, with either switch."""
    options = {"bundle_root": str(ROOT / "bundles" / NAME), "dataset_dir": str(msd), "cache_dir": str(tmp_path)}
    options |= TINY[NAME] | QUICK | {"split": "all", "validation_cases": 0}

    def images(files: list[str], *ids: str, **more: object) -> list[torch.Tensor]:
        paths = [str(ROOT / "bundles" / NAME / "configs" / f"{file}.json") for file in files]
        workflow = ConfigWorkflow(paths, workflow_type="train", **(options | more))
        workflow.initialize()
        found = [workflow.parser.get_parsed_content(name)[0] for name in ids]
        return [torch.as_tensor((item[0] if isinstance(item, list) else item)["image"]) for item in found]

    (plain,) = images(["train"], "validate#dataset")
    whole = images(["inference"], "dataset", dataset_dir=str(msd / "imagesTr" / "BRATS_001.nii.gz"))
    whole += images(["train"], "validate#dataset", normalise_crops=True)
    files = ["train", "pretrain", "pretrain_evaluate"]
    crops = images(files, "train#dataset", "validate#dataset", normalise_crops=True)
    for image in (plain, *whole, *crops):
        for channel in image:
            tissue = channel[channel != 0]
            assert abs(float(tissue.mean())) < 0.02 and float(tissue.std()) == pytest.approx(1, abs=0.02)
    assert all(torch.allclose(plain, image, atol=1e-2) for image in whole)  # the cache is half precision


@pytest.mark.parametrize("folder", ["pat.1", "pat.2"])
def test_outputs_are_named_after_the_whole_name_of_a_folder(
    run_bundle: RunBundle, brats: Path, model: Path, folder: str, tmp_path: Path
) -> None:
    shutil.copytree(brats / "BraTS2021_00001", tmp_path / folder)
    run_bundle(NAME, "inference", output=tmp_path / "out", dataset_dir=str(tmp_path / folder), checkpoint=str(model))
    assert (tmp_path / "out" / f"{folder}_pred.nii.gz").is_file()
