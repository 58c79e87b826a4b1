"""A bundle of one's own has its options, classes and weights as defaults, and nothing of the shipped weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, run

from custom.errors import InputError
from scripts.own_bundle import own_bundle

from .conftest import ROOT, TINY

# What differs from the shipped bundle, and how many outputs the network has then.
OWN: dict[str, tuple[dict[str, Any], int]] = {
    "unetr_btcv": ({"class_names": ["liver", "tumour"]}, 3),
    "unetr_brats": (
        {
            "img_size": [16, 16, 16],
            "contrasts": ["T1w", "FLAIR", "T1gd", "T2w"],
            "regions": {"all": [1, 5], "part": [5]},
        },
        2,
    ),
    "vit_cxr14": ({"class_names": ["Fracture", "Device"]}, 2),
}


def make(name: str, folder: Path, **options: Any) -> Path:
    """The bundle `folder`/mine, made from `name` at tiny size with random weights."""
    given = {key: value for key, value in TINY[name].items() if not key.startswith("decoder")} | options
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / name / "configs" / "inference.json"))
    parser.update(given | ({"out_channels": 3} if "class_names" in given and name == "unetr_btcv" else {}))
    torch.save({"model": parser.get_parsed_content("network_def").state_dict()}, folder / "weights.pt")
    return Path(own_bundle(name, str(folder / "mine"), str(folder / "weights.pt"), **given))


@pytest.mark.parametrize("name", OWN)
def test_it_runs_without_options_and_its_metadata_describe_it(
    name: str, images: dict[str, Path], tmp_path: Path
) -> None:
    options, channels = OWN[name]
    bundle = make(name, tmp_path, **options)
    files = {"config_file": str(bundle / "configs/inference.json"), "bundle_root": str(bundle)}
    run(**files, dataset_dir=str(images[name]), output_dir=str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir())
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    pred = metadata["network_data_format"]["outputs"]["pred"]
    assert metadata["name"] == "mine" and pred["num_channels"] == channels
    shape = metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]
    assert shape == {"unetr_btcv": [32, 32, 32], "unetr_brats": [16, 16, 16], "vit_cxr14": [32, 32]}[name]
    if "contrasts" in options:
        channels = metadata["network_data_format"]["inputs"]["image"]["channel_def"]
        assert list(channels.values()) == options["contrasts"]
    if "regions" in options:
        numbers = metadata["network_data_format"]["post_processed_outputs"]["pred"]["channel_def"]
        assert list(pred["channel_def"].values()) == list(options["regions"])
        assert numbers == {"0": "background", "1": "all", "5": "part"} and "of all, part" in metadata["task"]
    if "class_names" in options:
        names = [name for name in pred["channel_def"].values() if name != "background"]
        assert names == options["class_names"]
        assert f"of {', '.join(names)}" in metadata["description"]


def test_every_config_that_has_an_option_gets_it(tmp_path: Path) -> None:
    bundle = make("unetr_btcv", tmp_path, class_names=["liver", "tumour"], learning_rate=1e-5)
    configs = {path.stem: json.loads(path.read_text()) for path in bundle.glob("configs/*.json")}
    assert configs["train"]["out_channels"] == configs["inference"]["out_channels"] == 3
    assert configs["evaluate"]["class_names"] == configs["inference"]["class_names"] == ["liver", "tumour"]
    assert configs["train"]["learning_rate"] == 1e-5 and configs["evaluate"]["published_classes"] == []
    assert configs["train"]["hidden_size"] == configs["inference"]["hidden_size"] == 24


def test_it_carries_its_code_and_nothing_that_tells_of_the_shipped_weights(tmp_path: Path) -> None:
    bundle = make("unetr_btcv", tmp_path, class_names=["liver", "tumour"])
    assert (bundle / "custom" / "__init__.py").is_file() and not (bundle / "custom").is_symlink()
    assert [path.name for path in (bundle / "docs").iterdir()] == ["README.md"]
    assert [path.name for path in (bundle / "models").iterdir()] == ["model.pt"]


@pytest.mark.parametrize(("fault", "sentence"), [
    ({"clas_names": ["liver"]}, "unetr_btcv has no option clas_names; did you mean class_names"),
    ({"class_names": "liver"}, "class_names is 'liver'; give a list"),
    ({"out_channels": 3}, "give class_names instead"),
    ({"cache_dir": "/home/someone"}, "cache_dir belongs to this machine"),
    ({"class_names": ["liver"]}, "tell another number of classes; correct out_channels or class_names"),
    ({"patch_size": 16}, "of another architecture .* set its network options"),
    ({}, "mine exists; remove it"),
])  # fmt: skip
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(
    fault: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    bundle = make("unetr_btcv", tmp_path, class_names=["liver", "tumour"])
    target = bundle if not fault else tmp_path / "other"
    size = {key: value for key, value in TINY["unetr_btcv"].items() if not key.startswith("decoder")}
    with pytest.raises(InputError, match=sentence):
        own_bundle("unetr_btcv", str(target), str(tmp_path / "weights.pt"), **(size | fault))
    assert not (tmp_path / "other").exists()
