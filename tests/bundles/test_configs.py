"""Every config of every bundle is what MONAI and the model zoo expect."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.bundle.scripts import verify_metadata

from custom.networks import MAE

from .conftest import DECODER, NETWORK, QUICK, ROOT, TINY

BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))
VARIANTS = [
    (bundle.name, files, kind)
    for bundle in BUNDLES
    for files, kind in (
        (["train"], "train"),
        (["train", "paper"], "train"),
        (["train", "pretrain"], "train"),
        (["train", "pretrain", "paper", "paper_pretrain"], "train"),
        (["train", "pretrain", "pretrain_evaluate"], "train"),
        (["train", "evaluate"], "train"),
        (["train", "evaluate", "paper"], "train"),
        (["train", "evaluate", "linear_probe"], "train"),
        (["inference"], "infer"),
        (["inference", "paper"], "infer"),
        (["inference", "batch_inference"], "infer"),
        (["inference", "reconstruct"], "infer"),
        (["inference", "inference_trt"], "infer"),
        (["inference", "batch_inference", "inference_trt"], "infer"),
    )
    if all((bundle / "configs" / f"{file}.json").is_file() for file in files)
]
PINNED = re.compile(r"^\d+(\.\d+)+$")


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize(
    ("name", "files", "kind"), VARIANTS, ids=lambda value: "+".join(value) if type(value) is list else value
)
def test_check_properties_is_clean(
    name: str,
    files: list[str],
    kind: str,
    datasets: dict[str, Path],
    images: dict[str, Path],
    tiny_weights: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Every property MONAI knows has its name; every referenced object can be made."""
    root = ROOT / "bundles" / name
    data = images[name] if kind == "infer" else datasets[name]
    options: dict[str, Any] = {"bundle_root": str(root), "dataset_dir": str(data), "output_dir": str(tmp_path)}
    weights = tiny_weights[name]
    if files[-1] in ("reconstruct", "pretrain_evaluate"):
        options |= DECODER
        weights = tmp_path / "mae.pt"
        torch.save({"model": tiny_mae(name).state_dict()}, weights)
    if files[-1] == "linear_probe":
        options |= {"pretrained_weights": ""}
    if "paper" in files and name == "vit_cxr14":
        options |= {"in_channels": 1, "batch_size": 8}
    options |= TINY[name] | {"checkpoint": str(weights)}
    options |= {"cache_dir": str(tmp_path / "cache"), "ckpt_dir": str(tmp_path)} | QUICK if kind == "train" else {}
    workflow = ConfigWorkflow([str(root / "configs" / f"{file}.json") for file in files], workflow_type=kind, **options)
    workflow.initialize()
    assert workflow.check_properties() == []


def tiny_mae(name: str) -> MAE:
    """The masked autoencoder of the bundle `name` at tiny size, with random weights."""
    if name == "vit_cxr14":
        return MAE(1, **NETWORK | DECODER | {"img_size": [32, 32]})
    return MAE(4, **NETWORK, **DECODER)


def test_metadata_follows_the_zoo_schema(bundle: Path, tmp_path: Path) -> None:
    schema = os.environ.get("METADATA_SCHEMA")
    if not schema:
        pytest.skip(
            "METADATA_SCHEMA does not name the zoo's meta_schema_20240725.json, which is fetched by URL otherwise"
        )
    copy = shutil.copy(schema, tmp_path / "schema.json")
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(copy))


def test_metadata_pins_versions_and_explains_this_one(bundle: Path) -> None:
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert metadata["version"] in metadata["changelog"]
    versions = [metadata["monai_version"], metadata["pytorch_version"], metadata["numpy_version"]]
    assert all(PINNED.match(version) for version in [*versions, *metadata["required_packages_version"].values()])


def test_a_bundle_holds_what_the_zoo_asks_for(bundle: Path) -> None:
    names = ["LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "models/model.pt"]
    for name in [*names, "docs/README.md", "docs/data_license.txt", "custom/__init__.py"]:
        path = bundle / name
        assert path.is_file(), name
        assert path.stat().st_size <= 25 * 2**20, f"{name} is over the zoo's limit of 25 MB"


def test_shipped_weights_are_plain_tensors_that_fit_the_default_network(bundle: Path) -> None:
    parser = ConfigWorkflow(str(bundle / "configs" / "inference.json"), workflow_type="infer", bundle_root=str(bundle))
    parser.initialize()
    network = parser.parser.get_parsed_content("network")
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)["model"]
    assert network.state_dict().keys() == weights.keys()


def test_only_targets_name_our_code(bundle: Path) -> None:
    """An expression that mentions `custom` fails from a foreign working directory; a `_target_` does not."""
    for path in (bundle / "configs").glob("*.json"):
        for line in path.read_text().splitlines():
            assert not re.search(r'"\$[^"]*\bcustom\b', line), f"{path.name}: {line.strip()}"


CT = {"img_size": [96] * 3, "patch_size": 16, "spacing": [1.5, 1.5, 2.0], "intensity_range": [-175, 250]}
MR = {"img_size": [128] * 3, "patch_size": 16, "spacing": [1.0] * 3, "normalise_crops": True}
XRAY = {"img_size": 224, "resize": 256, "patch_size": 16, "in_channels": 3, "crop_scale": [0.08, 1], "batch_size": 256}
PRETRAINING = {"learning_rate": 1.5e-4, "masking_ratio": 0.125, "num_samples": 4, "decoder_hidden_size": 384}
FINE_TUNING = {"layer_decay": 0.75, "drop_path_rate": 0.1, "feature_size": 16}


@pytest.mark.parametrize(("name", "files", "expected"), [
    ("mae_pretrain_ct", ["paper"], CT | PRETRAINING | {"max_epochs": 10000, "warmup_epochs": 100}),
    ("unetr_btcv", ["paper"], CT | FINE_TUNING | {
        "learning_rate": 8.0625e-4, "num_samples": 4, "max_epochs": 5000, "warmup_epochs": 50}),
    ("unetr_brats", ["pretrain", "paper", "paper_pretrain"], MR | PRETRAINING | {
        "max_epochs": 500, "warmup_epochs": 10, "crop": "label", "rotate_prob": 0.0}),
    ("unetr_brats", ["paper"], MR | FINE_TUNING | {
        "learning_rate": 4.03125e-4, "num_samples": 1, "max_epochs": 300, "warmup_epochs": 10, "published_et": True}),
    ("vit_cxr14", ["pretrain", "paper", "paper_pretrain"], XRAY | {
        "learning_rate": 1.5e-4, "masking_ratio": 0.75, "decoder_hidden_size": 256, "decoder_num_layers": 8,
        "decoder_num_heads": 8, "betas": [0.9, 0.95], "max_epochs": 800, "warmup_epochs": 40, "rand_augment_prob": 0}),
    ("vit_cxr14", ["paper"], XRAY | {
        "learning_rate": 1e-3, "layer_decay": 0.75, "drop_path_rate": 0.1, "betas": [0.9, 0.999], "max_epochs": 100,
        "warmup_epochs": 5, "rand_augment_prob": 1.0, "validation_fraction": 0.0}),
])  # fmt: skip
def test_paper_config_has_the_published_recipe(name: str, files: list[str], expected: dict[str, Any]) -> None:
    root = ROOT / "bundles" / name / "configs"
    configs = [str(root / f"{file}.json") for file in ["train", *files]]
    workflow = ConfigWorkflow(configs, workflow_type="train")
    workflow.initialize()
    common = {"batch_size": 6, "weight_decay": 0.05, "hidden_size": 768, "num_layers": 12, "num_heads": 12}
    for key, value in (common | expected).items():
        assert workflow.parser.get_parsed_content(key) == pytest.approx(value), key
