"""What leaves a training, an evaluation, an inference or a comparison names no patient, and nobody else is asked."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from custom.files import case_names
from custom.study.results import without_folders
from scripts.demo_report import Step
from scripts.publish import publish
from scripts.tiny import (
    DECODER,
    IMAGES,
    LAYOUTS,
    NETWORK,
    ROOT,
    SPACING,
    TINY,
    combinations,
    config_files,
    options_of,
    write_data,
    write_weights,
)

from .marked import FIELDS, FOLDER, PATIENT, mark, marked_dicom, marks_in
from .offline import run_bundles_offline, run_offline

LEFT_OUT = {"paper", "paper_pretrain", "multi_gpu_train", "multi_gpu_evaluate", "inference_trt"}  # same code, or a GPU
# What needs the user's folders to work, and is never handed on: docs/safety.md names these files.
PRIVATE = ("lists/*.json", "settings.json", "runs/*/*/run.json", "runs/*/*/log.txt")


@pytest.fixture(scope="module", params=list(TINY))
def outputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[str]]:
    """Bundle, what all its commands wrote about marked images, and what they asked the network."""
    name = request.param
    data = write_data(LAYOUTS[name], tmp_path_factory.mktemp(FOLDER) / "data")
    mark(data)
    out = tmp_path_factory.mktemp(name)
    asked = run_bundles_offline(runs_of(name, data, out), tmp_path_factory.mktemp("ban") / name)
    for weights in out.glob("*/weights.pt"):  # made here, not by the bundle
        weights.unlink()
    return name, out, asked


def runs_of(name: str, data: Path, out: Path) -> list[dict[str, Any]]:
    """Arguments of `monai.bundle.run` for every combination of the bundle's configs that is a task of its own."""
    root, runs = ROOT / "bundles" / name, []
    for one in combinations(root):
        if LEFT_OUT.isdisjoint(one.files):
            weights = write_weights(name, one.files, out / str(one) / "weights.pt")
            options = options_of(name, one, data, weights, out / str(one)) | {"bundle_root": str(root)}
            if one.kind == "infer":
                options |= {"dataset_dir": str(image_of(name, data)), "cache_dir": str(out / "cache")}
            runs.append({"config_file": [str(file) for file in config_files(root, one.files)], **options})
    return runs


def image_of(name: str, data: Path) -> Path:
    """One image of the bundle's layout, after `mark`."""
    image = data / IMAGES[LAYOUTS[name]]
    return image.with_suffix(".dcm") if image.suffix == ".png" else image


def test_the_search_finds_marks_in_every_format(tmp_path: Path) -> None:
    for layout in ("btcv", "nih"):
        mark(write_data(layout, tmp_path / layout))
    volume, radiograph = tmp_path / "btcv" / IMAGES["btcv"], tmp_path / "nih" / "images" / "00000001_000.dcm"
    header = nibabel.load(volume).header
    assert all(bytes(header[field]).startswith(PATIENT.encode()) for field in FIELDS) and len(header.extensions) == 3
    assert marked_dicom(radiograph)
    found = marks_in(tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.nii.gz")}
    files |= {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.dcm")}
    assert set(found) == files and len(found[str(radiograph.relative_to(tmp_path))]) == 5


def test_the_search_finds_marks_in_what_holds_other_files(tmp_path: Path) -> None:
    text, picture = PngInfo(), BytesIO()
    text.add_text("Title", PATIENT, zip=True)
    Image.new("L", (4, 4)).save(picture, "png", pnginfo=text)
    (tmp_path / "page.html").write_text(f'<img src="data:image/png;base64,{b64encode(picture.getvalue()).decode()}">')
    np.savez_compressed(tmp_path / "arrays.npz", name=np.frombuffer(PATIENT.encode() * 50, np.uint8))
    torch.save({"case": PATIENT}, tmp_path / "weights.pt")
    (tmp_path / "log.gz").write_bytes(gzip.compress(b"nothing"))
    assert marks_in(tmp_path) == {key: [PATIENT] for key in ("arrays.npz", "page.html", "weights.pt")}


@pytest.mark.slow
def test_no_output_of_a_bundle_names_a_patient_or_a_folder(outputs: tuple[str, Path, list[str]]) -> None:
    _, out, _ = outputs
    assert {path.suffix for path in out.rglob("*")} >= {".csv", ".pt", ".png"}
    assert marks_in(out) == {}


def test_an_attempt_to_ask_the_network_is_seen_and_fails(tmp_path: Path) -> None:
    ask = "from contextlib import suppress; import socket\nwith suppress(PermissionError): "
    ask += "socket.create_connection(('127.0.0.1', 9)); raise SystemExit(1)"
    asked = run_offline(["-c", ask], tmp_path / "ban")
    assert len(asked) == 1 and asked[0].startswith("socket.getaddrinfo 127.0.0.1")


@pytest.mark.slow
def test_no_command_of_a_bundle_asks_the_network(outputs: tuple[str, Path, list[str]]) -> None:
    assert outputs[2] == []


@pytest.mark.slow
def test_a_run_that_mlflow_tracks_asks_nobody(tmp_path: Path) -> None:
    data = write_data("btcv", tmp_path / "data")
    run = next(run for run in runs_of("mae_pretrain_ct", data, tmp_path / "out") if "max_epochs" in run)
    assert run_bundles_offline([run | {"tracking": "mlflow"}], tmp_path / "ban") == []
    assert list((tmp_path / "out").rglob("mlruns.db"))


@pytest.mark.slow
def test_a_segmentation_has_the_geometry_of_its_image_and_no_text_of_its_header(
    outputs: tuple[str, Path, list[str]],
) -> None:
    written = sorted(outputs[1].rglob("*.nii.gz"))
    assert written or outputs[0] == "vit_cxr14"
    for path in written:
        header = nibabel.load(path).header
        assert not header.extensions and not any(bytes(header[field]).strip(b"\0") for field in FIELDS), path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unetr_btcv", "vit_cxr14"])
def test_what_a_comparison_finds_names_neither_and_asks_nobody(name: str, tmp_path: Path) -> None:
    data, out, settings = tmp_path / FOLDER / "data", tmp_path / "out", tmp_path / "settings.json"
    write_data(LAYOUTS[name], data)
    mark(data)
    network = NETWORK | SPACING if name == "unetr_btcv" else NETWORK | {"img_size": 32}
    tuning = {"feature_size": 4, "validation_cases": 2} if name == "unetr_btcv" else {"validation_fraction": 0.3}
    given = {"bundle": str(ROOT / "bundles" / name), "dataset_dir": str(data), "seeds": 1, "arms": ["scratch", "self"]}
    given |= {"shared": network | {"num_workers": 0}, "pretraining": DECODER, "fine_tuning": tuning, "validations": 1}
    given |= {"pretraining_steps": 2, "steps": 2, "learning_rates": [1e-3], "layer_decays": [1.0]}
    settings.write_text(json.dumps(given))
    asked = run_offline(["-m", "scripts.compare", str(out), "--settings", str(settings)], tmp_path / "ban")
    assert asked == [] and (out / "report.html").is_file()
    private = {str(path.relative_to(out)) for pattern in PRIVATE for path in out.glob(pattern)}
    found = marks_in(out)
    assert set(found) <= private and {word for words in found.values() for word in words} == {FOLDER}
    publish(str(out), str(tmp_path / "record"))
    assert marks_in(tmp_path / "record") == {}


def test_the_demo_tells_commands_that_work_from_the_project_and_no_other_folder(tmp_path: Path) -> None:
    step = Step("", "unetr_btcv", ["train"], {"output_dir": str(tmp_path / FOLDER / "demo" / "scratch")})
    outside = step.command(tmp_path / FOLDER / "demo")
    assert "--output_dir demo/scratch" in outside and FOLDER not in outside
    inside = Step("", "unetr_btcv", ["train"], {"output_dir": str(ROOT / "demo" / "x" / "scratch")})
    assert "--output_dir demo/x/scratch" in inside.command(ROOT / "demo" / "x")


def test_cases_of_one_name_are_numbered_in_tables_and_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        names = case_names([f"/{FOLDER}/b/img1.nii.gz", f"/{FOLDER}/a/img1.nii.gz", "/c/img2.nii.gz"])
    assert names == {
        f"/{FOLDER}/a/img1.nii.gz": "img1 (1 of 2)", f"/{FOLDER}/b/img1.nii.gz": "img1 (2 of 2)",
        "/c/img2.nii.gz": "img2",
    }  # fmt: skip
    assert f"/{FOLDER}/b/img1.nii.gz img1 (2 of 2)" in caplog.text


def test_settings_that_are_handed_on_hold_names_of_files_and_no_folder() -> None:
    settings = {"dataset_dir": "/x", "bundle": "/a/b", "shared": {"split": f"/{FOLDER}/s.json"}, "cases": [1, 2]}
    assert without_folders(settings) == {"bundle": "b", "shared": {"split": "s.json"}, "cases": [1, 2]}
    kept = {"split": "0/5", "weight_decay": "$1e-3 * @batch_size / 256", "class_names": ["Mass/Nodule"]}
    assert without_folders({"shared": kept | {"files": [f"/{FOLDER}/x"]}}) == {"shared": kept | {"files": ["x"]}}
    assert without_folders({"split": f"$read('/{FOLDER}/x.json', 1 / 2)"}) == {"split": "$read('x.json', 1 / 2)"}
