"""JSON and CSV files with any fault: lists of cases, splits, settings, bundles, tables of findings."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from custom.data import datalist, nih_datalist
from custom.data.nih import COLUMNS
from custom.options import refuse_unknown_options
from custom.study.settings import read_settings
from scripts.inspect import findings
from scripts.tiny import ROOT

from .harness import endures, fuzz
from .mutations import changed, damaged, documents

NAMES = ("flair", "t1", "t1ce", "t2")
CASES = [{"image": f"imagesTr/c{i}.nii.gz", "label": f"labelsTr/c{i}.nii.gz"} for i in range(6)]
MANY = [{"image": [f"p{i}/p{i}_{name}.nii.gz" for name in NAMES], "label": f"p{i}/p{i}_seg.nii.gz"} for i in range(3)]
DATASET = {"modality": {"0": "FLAIR", "1": "T1w"}, "training": CASES, "test": ["imagesTs/c9.nii.gz"]}
SPLIT = {"training": ["c0", "c1.nii.gz", CASES[3]], "validation": ["c2"], "test": [CASES[3], *MANY]}
SETTINGS = {
    "bundle": str(ROOT / "bundles" / "unetr_btcv"),
    "dataset_dir": "data",
    "arms": ["scratch", "self", "pixels"],
    "cases": [2, "all"],
    "seeds": 2,
    "learning_rates": [1e-3],
    "probe": True,
    "variants": {"half": {"masking_ratio": 0.5}},
    "shared": {"spacing": [2, 2, 2]},
    "pretraining": {"batch_size": 1},
    "fine_tuning": {"train#dataset#num_samples": 2},
}
ROWS = [
    COLUMNS,
    ("1.png", "Mass|Nodule", "1"),
    ("2.png", "No Finding", "02"),
    ("3.png", "Hernia", "3"),
    ("4.png", "Edema", "3"),
]


def config(name: str) -> Any:
    return json.loads((ROOT / "bundles/unetr_btcv/configs" / f"{name}.json").read_text(encoding="utf-8"))


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV file with odd cells, or damaged bytes."""
    file = io.StringIO()
    csv.writer(file).writerows(draw(changed([list(row) for row in ROWS]).filter(is_table)))
    content = file.getvalue().encode("utf-8", "replace")
    others = (content.decode().encode("utf-16"), b"\xef\xbb\xbf" + content, content.replace(b",", b";"), b'"' + content)
    return draw(st.one_of(st.just(content), damaged(content), st.sampled_from((*others, content + b"a" * 200_000))))


def is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, list) for row in value)


def cases(folder: Path) -> Path:
    """Empty files of the cases that the lists name."""
    for name in [path for case in CASES for path in case.values()]:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for case in MANY:
        for name in (*case["image"], case["label"]):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
    (folder / "images").mkdir()
    for row in ROWS[1:]:
        (folder / "images" / row[0]).touch()
    (folder / "bundle/configs").mkdir(parents=True)
    for name in ("evaluate", "train"):
        shutil.copy(ROOT / "bundles/unetr_btcv/configs" / f"{name}.json", folder / "bundle/configs")
    shutil.copytree(ROOT / "bundles/mae_pretrain_ct/configs", folder / "mae_pretrain_ct/configs")
    return folder


def read_dataset(content: bytes, folder: Path) -> None:
    (folder / "dataset.json").write_bytes(content)
    for contrasts in (None, ("FLAIR", "T1w")):
        endures(lambda contrasts=contrasts: datalist(folder, contrasts=contrasts))


def read_split(content: bytes, folder: Path) -> None:
    (folder / "dataset.json").unlink(missing_ok=True)
    (folder / "split.json").write_bytes(content)
    for section in ("training", "validation", "test"):
        endures(lambda section=section: datalist(folder, section, split="split.json", contrasts=NAMES))


def read_setting(content: bytes, folder: Path) -> None:
    (folder / "settings.json").write_bytes(content)
    read_settings(folder / "settings.json")


def read_bundle(content: bytes, folder: Path, name: str) -> None:
    """Where somebody else's bundle is compared, inspected, or run with an option."""
    file = folder / f"bundle/configs/{name}.json"
    file.write_bytes(content)
    endures(lambda: read_settings(bundle=str(folder / "bundle"), dataset_dir="data"))
    endures(lambda: list(findings(folder / "bundle")))
    words = ["monai/bundle/__main__.py", "run", "--config_file", str(file), "--spacin", "1"]
    endures(lambda: refuse_unknown_options(words))


def read_table(content: bytes, folder: Path) -> None:
    (folder / "Data_Entry_2017.csv").write_bytes(content)
    (folder / "test_list.txt").unlink(missing_ok=True)
    nih_datalist(folder)


def read_list(content: bytes, folder: Path) -> None:
    (folder / "Data_Entry_2017.csv").write_text("\n".join(map(",".join, ROWS)), encoding="utf-8")
    (folder / "test_list.txt").write_bytes(content)
    nih_datalist(folder)


FAULTS: dict[str, tuple[int, SearchStrategy[bytes], Callable[[bytes, Path], object]]] = {
    "dataset.json": (200, documents(DATASET), read_dataset),
    "split files": (150, documents(SPLIT), read_split),
    "settings": (150, documents(SETTINGS), read_setting),
    "train.json": (60, documents(config("train")), partial(read_bundle, name="train")),
    "metadata.json": (60, documents(config("metadata")), partial(read_bundle, name="metadata")),
    "tables of findings": (150, tables(), read_table),
    "lists of images": (50, damaged(b"1.png\n2.png\n"), read_list),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_document_is_read_or_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    inputs, strategy, read = FAULTS[fault]
    cases(tmp_path)
    fuzz(inputs, strategy, lambda content: read(content, tmp_path))
