"""A mistyped option of a bundle ends the command before it begins."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.options import refuse_unknown_options, unknown_part
from scripts.tiny import ROOT

CONFIGS = "bundles/unetr_btcv/configs"
TRAIN, INFERENCE = f"{CONFIGS}/train.json", f"{CONFIGS}/inference.json"
COMMAND = ["/site-packages/monai/bundle/__main__.py", "run"]


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--max_epoch", "1"], "--max_epoch is none of this bundle's; did you mean max_epochs"),
        (["--max-epoch=1"], "did you mean max_epochs"),
        (["--train#trainer#max_epoch", "1", "--seed", "1"], None),  # a new argument, which the trainer will refuse
        (["--train#traner#max_epochs", "1"], "did you mean trainer"),
        (["--train::dataset::transforms#7", "1"], "none of this bundle's"),
        (["--validate#handlers#99#interval", "1"], "correct it or leave it out"),
        (["--config_file", f"{TRAIN},{CONFIGS}/evaluate.json", "--max_epoch", "1"], "did you mean max_epochs"),
        (["--max_epochs", "2.5"], "--max_epochs is 2.5; give a whole number of 1 or more"),
        (["--batch_size", "0"], "--batch_size is 0; give a whole number of 1 or more"),
        (["--num_workers=-1"], "--num_workers is -1; give a whole number of 0 or more"),
        (["--patch_size", "True"], "give a whole number of 1 or more"),
        (["--qwertz", "1"], "--qwertz is none of this bundle's; correct it or leave it out"),
    ],
)
def test_what_no_config_has_is_refused_with_a_hint(options: list[str], hint: str | None) -> None:
    words = [*COMMAND, "--config_file", TRAIN, *options]
    if hint is None:
        refuse_unknown_options(words)
    else:
        with pytest.raises(InputError, match=hint):
            refuse_unknown_options(words)


@pytest.mark.parametrize(
    "words",
    [
        [*COMMAND, "--config_file", TRAIN, "--bundle_root", "x", "--resume", "true", "--network_def#drop", "0.1"],
        [*COMMAND, "--config_file", TRAIN, "--num_workers", "0", "--patch_size", "[16,16,8]", "--max_epochs", "$2 * 3"],
        [*COMMAND, "--config_file", f"['{TRAIN}','{CONFIGS}/evaluate.json']", "--eval_section", "validation"],
        [*COMMAND, "--config_file", INFERENCE, "--max_epochs", "2"],  # of another command of the bundle
        [*COMMAND, "--config_file", TRAIN, "--tracking", "mlflow", "--tracking_uri", "sqlite:///x", "--run_name", "x"],
        [*COMMAND, "--config_file", TRAIN, "--train#dataloader#timeout", "9", "--+initialize", "$1"],
        [*COMMAND, "--config_file", "nowhere.json", "--max_epoch", "1"],  # MONAI says it
        ["/site-packages/monai/bundle/__main__.py", "ckpt_export", "--max_epoch", "1"],
        ["/usr/bin/pytest", "run", "--config_file", TRAIN, "--max_epoch", "1"],
    ],
)
def test_everything_else_is_let_through(words: list[str]) -> None:
    refuse_unknown_options(words)


def test_options_in_a_file_are_checked_as_well(tmp_path: Path) -> None:
    file = tmp_path / "args.json"
    file.write_text(json.dumps({"config_file": [TRAIN, f"{CONFIGS}/evaluate.json"], "max_epoch": 1}))
    with pytest.raises(InputError, match="did you mean max_epochs"):
        refuse_unknown_options([*COMMAND, "--args_file", str(file)])
    refuse_unknown_options([*COMMAND, "--args_file", str(file), "--config_file", "nowhere.json"])  # the line goes first


def test_null_is_an_entry_too_and_what_a_reference_holds_is_unknown_yet() -> None:
    config = {"skip_layers": None, "network": "@network_def", "list": [{"a": 1}]}
    assert [unknown_part(name, config) for name in ("skip_layers", "network#depth", "list#0#a")] == [None] * 3
    assert unknown_part("list#0#b", config) == "" and unknown_part("list#1", config) == ""


def test_the_command_ends_with_the_sentence() -> None:
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", INFERENCE]
    command += ["--bundle_root", "bundles/unetr_btcv", "--dataset_directory", "x"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.endswith(
        "ERROR: option --dataset_directory is none of this bundle's; did you mean dataset_dir?\n"
    )
