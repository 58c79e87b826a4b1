"""Settings of a comparison, and the bundles' own recipes."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.study import checks
from custom.study.recipe import find_recipe
from custom.study.settings import read_settings
from scripts.tiny import ROOT

BTCV = str(ROOT / "bundles" / "unetr_btcv")
BRATS = str(ROOT / "bundles" / "unetr_brats")


@pytest.mark.parametrize(
    ("name", "pretraining", "metric"),
    [
        ("unetr_btcv", "mae_pretrain_ct", "Dice"),
        ("unetr_brats", "unetr_brats", "Dice"),
        ("vit_cxr14", "vit_cxr14", "AUC"),
    ],
)
def test_bundles_tell_how_they_are_pretrained(name: str, pretraining: str, metric: str) -> None:
    recipe = find_recipe(ROOT / "bundles" / name)
    assert (recipe.pretraining_bundle.name, recipe.metric) == (pretraining, metric)


def test_command_line_goes_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"bundle": BTCV, "dataset_dir": "data", "seeds": 5, "cases": [6, "all"]}))
    settings = read_settings(file, seeds=2, arms="scratch,self")
    assert (settings.seeds, settings.cases, settings.arms) == (2, (6, 0), ("scratch", "self"))


def test_options_of_the_command_line_join_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    own = {"pretraining": {"batch_size": 2, "masking_ratio": 0.5}}
    file.write_text(json.dumps({"bundle": BTCV, "dataset_dir": "data"} | own))
    settings = read_settings(file, pretraining={"masking_ratio": [0.6, 0.9]})
    assert settings.pretraining == {"batch_size": 2, "masking_ratio": [0.6, 0.9]}


@pytest.mark.parametrize(("given", "expected"), [("false", False), ("true", True), (False, False)])
def test_words_of_the_command_line_become_what_they_mean(given: object, expected: bool) -> None:
    settings = read_settings(bundle=BTCV, dataset_dir="data", probe=given, seeds="4")
    assert (settings.probe, settings.seeds) == (expected, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"arms": "self"}, "'scratch' is missing"),
        ({"arms": "scratch,magic"}, "'magic' is unknown"),
        ({"arms": "scratch,scratch_long"}, "add arm 'self'"),
        ({"arms": "scratch,given"}, "set --weights"),
        ({"seeds": 0}, "seeds is 0"),
        ({"cases": "6,many"}, "cases '6,many'"),
        ({"learning_rates": "0"}, "above 0"),
        ({"section": "training"}, "section 'training'"),
        ({"shared": {"hiden_size": 96}}, "did you mean hidden_size"),
        ({"epochs": 3}, "'epochs' is unknown"),
        ({"probe": "perhaps"}, "probe is 'perhaps'"),
        ({"seeds": "three"}, "seeds is 'three'"),
        ({"decoder": "heavy"}, "decoder 'heavy'"),
        ({"bundle": str(ROOT / "bundles" / "vit_cxr14"), "decoder": "light"}, "is linear already"),
        ({"variants": "half"}, "variants is 'half'"),
        ({"variants": {"half": 0.5}}, "variant 'half' is 0.5"),
        ({"variants": {"wide": {"hidden_size": 192}}}, "cannot set hidden_size"),
        ({"variants": {"self": {}}}, "'self' is a name of another arm"),
        ({"variants": {"half": {"mask_ratio": 0.5}}}, "did you mean masking_ratio"),
        ({"fine_tuning": {"learning_rate": 1e-3}}, "use learning_rates"),
        ({"shared": {"max_epochs": 3}}, "use pretraining_steps"),
        ({"fine_tuning": {"optimizer#learning_rate": 1e-3}}, "use learning_rates"),
        ({"fine_tuning": {"train#trainer#max_epochs": 3}}, "use steps"),
        ({"fine_tuning": {"train#data#section": "all"}}, "use cases"),
        ({"fine_tuning": {"optimizer::learning_rate": 1e-3}}, "use learning_rates"),
        ({"fine_tuning": {"optimizer": {"_target_": "torch.optim.SGD"}}}, "use learning_rates"),
        ({"fine_tuning": {"train::trainer::max_epochs": 3}}, "use steps"),
        ({"fine_tuning": {"train#dataset#data": []}}, "use cases"),
        ({"variants": {"wide": {"network_def::hidden_size": 192}}}, "cannot set network_def"),
        ({"variants": {"bright": {"train#preprocessing#transforms#2#window": [0, 9]}}}, "cannot set train#preproc"),
        ({"fine_tuning": {"train#preprocessing#transforms#1#window": [0, 9]}}, "preprocessed by .* set the same"),
        ({"fine_tuning": {"train#preprocessing#transforms#0#pixdim": [3, 3, 3]}}, "preprocessed by .* set the same"),
        ({"fine_tuning": {"validate#preprocessing": "$None"}}, "cannot set validate#preprocessing"),
        ({"bundle": BRATS, "variants": {"a": {"validate#preprocessing#transforms": []}}}, "cannot set validate#pre"),
        ({"variants": {"more": {"split": "0/5"}}}, "cannot set split"),
        ({"bundle": BRATS, "pretraining": {"normalise_crops": True}}, "normalise_crops is True in pre-training and Fa"),
        ({"bundle": BRATS, "fine_tuning": {"normalise_crops": True}}, "normalise_crops is False in pre-training and T"),
        ({"bundle": BRATS, "variants": {"crops": {"normalise_crops": True}}}, "cannot set normalise_crops"),
        ({"pretraining": {"split": "0/5"}}, "cannot set split.*set it in shared"),
        ({"pretraining": {"num_layers": 6}}, "num_layers is 6 in pre-training and 12 in fine-tuning.*set it in shared"),
        ({"fine_tuning": {"early_stop": True}}, "all arms train to the end"),
        ({"fine_tuning": {"warmup_epochs": 3}}, "share of the steps"),
        ({"pretraining": {"save_interval": 3}}, "share of the steps"),
        ({"bundle": str(ROOT / "bundles" / "vit_cxr14"), "fine_tuning": {"keep_best": False}}, "cannot set keep_best"),
        ({"shared": {"resume": True}}, "cannot set resume"),
        ({"seeds": 2.9}, "seeds is 2.9"),
        ({"cases": [6.5]}, "cases"),
        ({"learning_rates": "nan"}, "above 0"),
        ({"layer_decays": "inf"}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_settings(**{"bundle": BTCV, "dataset_dir": "data"} | given)


def test_a_place_is_the_same_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    written = [read_settings(bundle=one, dataset_dir=["data/", "./data"]) for one in (f"{BTCV}/", "bundles/unetr_btcv")]
    assert written[0] == written[1] and written[0].dataset_dir == [str(ROOT / "data")] * 2


def test_classes_that_do_not_fit_each_other_are_refused_before_anything_runs() -> None:
    own = {"out_channels": 3, "class_names": ["liver", "spleen", "kidneys"], "published_classes": []}
    with pytest.raises(InputError, match=r"^3 class_names do not fit 3 classes"):
        read_settings(bundle=BTCV, dataset_dir="data", fine_tuning=own)


def test_the_same_preprocessing_may_be_set_in_both() -> None:
    options = {place: {f"train#preprocessing#transforms#{i}#window": [0, 9]} for place, i in PLACES}
    assert read_settings(bundle=BTCV, dataset_dir="data", **options).pretraining


PLACES = (("pretraining", 2), ("fine_tuning", 1))  # of the window among the transforms


def test_a_missing_package_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs scikit-learn"):
        read_settings(bundle=BTCV, dataset_dir="data")
    assert read_settings(bundle=BTCV, dataset_dir="data", arms="scratch,self")
    assert read_settings(bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir="data")


def test_handlers_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(InputError, match=r"^validate#handlers of .*/unetr_btcv cannot be made .*1 / 0"):
        read_settings(bundle=BTCV, dataset_dir="data", fine_tuning={"class_names": "$1 / 0"})


def test_a_folder_that_is_no_task_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no configs/train\.json"):
        find_recipe(tmp_path)
    with pytest.raises(InputError, match="bundle is given"):
        read_settings(dataset_dir="data")


def test_the_page_tells_every_setting_with_its_default() -> None:
    page = (ROOT / "docs" / "compare.md").read_text().partition("## Settings")[2]
    told = dict(re.findall(r"^\| `(\w+)` \| ?`?([^|`]*?)`? \|", page, flags=re.MULTILINE))
    usual = read_settings(bundle=BTCV, dataset_dir="data")
    known = {one.name: getattr(usual, one.name) for one in fields(usual)} | {"bundle": "", "dataset_dir": ""}
    shown = {name: ",".join(map(str, value)) if isinstance(value, tuple) else value for name, value in known.items()}
    assert told == {name: str(value) for name, value in (shown | {"cases": "all", "probe": "true"}).items()}
    assert usual.cases == (0,) and usual.probe
