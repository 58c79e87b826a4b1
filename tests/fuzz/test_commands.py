"""Command lines with any fault, and how many inputs there are in all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st

from custom.options import refuse_unknown_options
from scripts.tiny import ROOT

from . import test_checkpoints, test_documents, test_radiographs, test_volumes
from .harness import endures, fuzz

CONFIGS = ROOT / "bundles" / "unetr_btcv" / "configs"
FILES = [str(CONFIGS / f"{name}.json") for name in ("train", "evaluate", "inference")]
NAMES = (
    "spacing", "img_size", "max_epochs", "learning_rate", "class_names", "dataset_dir", "resume", "pretrained_weights",
    "train#dataset#num_samples", "network_def#drop", "train#trainer", "validate#handlers#0", "initialize", "tracking",
)  # fmt: skip
VALUES = (
    "", "1", "-1", "1e400", "nan", "true", "None", "[1,2,3]", "[1,2", "(1,)", "{}", "{'a':1}", "x", "$1/0", "@nowhere",
    "%nowhere", "'", "\"", "a b", "--", "-", "=", "[" * 5000, "(" * 300 + ")" * 300, "9" * 5000, "\0", "\ud800", "é",
)  # fmt: skip
COMMANDS = 200


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    """The words of `python -m monai.bundle run` with up to five options that may make no sense."""
    file = draw(st.sampled_from((*FILES, str(FILES[:2]), "nowhere.json", *VALUES)) | st.text(max_size=20))
    words = ["monai/bundle/__main__.py", "run", "--config_file", file]
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from(NAMES) | st.text(max_size=12))
        value = draw(st.sampled_from(VALUES) | st.text(max_size=20))
        words += draw(st.sampled_from(([f"--{name}", value], [f"--{name}={value}"], [name], [f"--+{name}", value])))
    return words


def test_a_command_line_is_let_through_or_refused_in_one_sentence() -> None:
    fuzz(COMMANDS, commands(), refuse_unknown_options)


@pytest.mark.parametrize(
    ("options", "due"),
    [
        (["--spacing", "x"], "give a list"),
        (["--spacing", "[1,2"], "give a list"),
        (["--max_epochs", "many"], "give a number"),
        (["--spacing", "2"], None),
        (["--class_names", "[liver,tumour]"], None),
        (["--max_epochs", "$2 * 3"], None),
        (["--learning_rate", "1e-3"], None),
        (["--resume", "true"], None),
        (["--resume", "False"], None),
        (["--resume", "$1 > 0"], None),
        (["--resume", "false"], "give True or False"),  # to MONAI a word, which counts as true
        (["--amp", "no"], "give True or False"),
    ],
)
def test_a_word_in_place_of_a_number_list_or_flag_is_refused(options: Sequence[str], due: str | None) -> None:
    words = ["monai/bundle/__main__.py", "run", "--config_file", FILES[0], *options]
    found = endures(lambda: refuse_unknown_options(words))
    assert found is None if due is None else due in found


def test_there_are_at_least_two_thousand_inputs() -> None:
    """Each test asserts that it tries as many as its table says."""
    tables = (test_checkpoints, test_documents, test_radiographs, test_volumes)
    assert COMMANDS + sum(fault[0] for module in tables for fault in module.FAULTS.values()) >= 2000
