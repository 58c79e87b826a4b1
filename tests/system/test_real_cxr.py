"""Real chest X-rays go through every config of their bundle; the shipped weights do what their card says."""

import csv
from pathlib import Path

import pytest
from monai.bundle import run

ROOT = Path(__file__).resolve().parents[2] / "bundles" / "vit_cxr14"

pytestmark = [pytest.mark.sample_data, pytest.mark.slow]


def run_real(*configs: str, **options: object) -> None:
    run(config_file=[str(ROOT / "configs" / f"{name}.json") for name in configs], bundle_root=str(ROOT), **options)


def mean_auc(folder: Path) -> tuple[float, float]:
    """Mean AUC and the half width of its interval."""
    with (folder / "summary.csv").open() as file:
        *_, last = csv.DictReader(file)
    return float(last["auc"]), (float(last["ci_high"]) - float(last["ci_low"])) / 2


def test_real_radiographs_are_pretrained_on_finetuned_on_evaluated_and_classified(
    sample_data: Path, tmp_path: Path
) -> None:
    """Both sets at once, at a quarter of the default resolution."""
    folders = [str(sample_data / name) for name in ("cxr_nih_256", "cxr_nih_64")]
    coarse = {"img_size": 56, "patch_size": 8, "hidden_size": 48, "num_layers": 3}
    data = coarse | {"dataset_dir": folders, "cache_dir": str(tmp_path / "cache"), "output_dir": str(tmp_path)}
    once = {"ckpt_dir": str(tmp_path), "max_epochs": 2, "warmup_epochs": 0}
    decoder = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
    encoder, model = str(tmp_path / "pretrained.pt"), str(tmp_path / "model.pt")

    run_real("train", "pretrain", **data, **once, **decoder)
    run_real("train", **data, **once, pretrained_weights=encoder)
    run_real("train", "evaluate", **data, checkpoint=model)
    assert 0.3 < mean_auc(tmp_path)[0] < 1
    image = coarse | {"dataset_dir": str(next((Path(folders[0]) / "images").iterdir())), "output_dir": str(tmp_path)}
    run_real("inference", **image, checkpoint=model)
    assert len(list(tmp_path.glob("*_relevance.png"))) == len(list(tmp_path.glob("*_findings.json"))) == 1


def test_the_shipped_weights_keep_their_accuracy_from_224_to_384_pixels(sample_data: Path, tmp_path: Path) -> None:
    """On patients they have not seen: within the noise of the test set, and above chance."""
    data = {"dataset_dir": str(sample_data / "cxr_nih_256"), "cache_dir": str(tmp_path / "cache")}
    areas = {}
    for size in (224, 384):
        run_real("train", "evaluate", **data, output_dir=str(tmp_path / str(size)), img_size=size)
        areas[size] = mean_auc(tmp_path / str(size))
    (usual, noise), (finer, _) = areas[224], areas[384]
    assert usual - noise > 0.5
    assert finer == pytest.approx(usual, abs=noise)
