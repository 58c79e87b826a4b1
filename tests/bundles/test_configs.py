"""Every config of every bundle is what MONAI and the model zoo expect."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from scripts.tiny import ROOT, Combination, combinations, config_files, options_of, write_weights

BUNDLES = sorted(path.parent.parent for path in ROOT.glob("bundles/*/configs/metadata.json"))
VARIANTS = [
    (bundle.name, combination)
    for bundle in BUNDLES
    for combination in combinations(bundle)
    if "multi_gpu" not in str(combination)  # which joins processes: checked on the packed copies
]


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.mark.parametrize(("name", "combination"), VARIANTS, ids=str)
def test_check_properties_is_clean(
    name: str, combination: Combination, datasets: dict[str, Path], tmp_path: Path
) -> None:
    """Every property MONAI knows has its name; every referenced object can be made."""
    root = ROOT / "bundles" / name
    weights = write_weights(name, combination.files, tmp_path / "weights.pt")
    options = options_of(name, combination, datasets[name], weights, tmp_path) | {"bundle_root": str(root)}
    files = [str(file) for file in config_files(root, combination.files)]
    workflow = ConfigWorkflow(files, workflow_type=combination.kind, **options)
    workflow.initialize()
    assert workflow.check_properties() == []


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


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_published_learning_rate_follows_the_batch_of_all_processes(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 4)
    rates = []
    for stems, batch in ((["train", "paper"], 8), (["train", "paper", "multi_gpu_train"], 2)):
        parser = ConfigWorkflow([str(file) for file in config_files(bundle, stems)], batch_size=batch).parser
        rates.append(parser.get_parsed_content("learning_rate"))
    assert rates[0] == pytest.approx(rates[1]) and rates[0] > 0
