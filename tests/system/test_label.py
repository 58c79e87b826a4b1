"""MONAI Label serves the bundles: its own client gets what the command line gives, saves labels, and trains on them.

Runs where MONAI Label is installed: `make test-label`.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import run

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.cxr_files import write_nih
from custom.data.phantoms.mr import write_msd
from custom.networks import UNETR
from scripts.own_bundle import own_bundle

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own: make test-label")

ROOT = Path(__file__).resolve().parents[2]
CLASSIFIER = "vit_cxr14_classification"


class Server:
    """The server, its client and its folders."""

    def __init__(self, folder: Path) -> None:
        from monailabel.client import MONAILabelClient

        self.studies, self.models = folder / "studies", folder / "monaibundle" / "model"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.client = MONAILabelClient(f"http://127.0.0.1:{self.port}", tmpdir=str(folder))
        self.log = folder / "server.log"

    @contextmanager
    def running(self, *options: str) -> Iterator[None]:
        """Start it as `make label` does, without PYTHONPATH, wait until it answers, and end it afterwards."""
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        words = [*options, "--studies", str(self.studies)]
        words += ["--output_dir", str(self.studies.parent), "--port", str(self.port)]
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "scripts.label", *words]
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            self.wait_until(self.answers, lambda: process.poll() is not None, "start")
            yield
        finally:
            process.terminate()
            process.wait(30)

    def answers(self) -> bool:
        """Whether the port is open."""
        with socket.socket() as port:
            return port.connect_ex(("127.0.0.1", self.port)) == 0

    def wait_until(self, done: Callable[[], bool], failed: Callable[[], bool], what: str, seconds: int = 300) -> None:
        """Poll; fail with the end of the server's log."""
        end = time.monotonic() + seconds
        while not done():
            assert not failed() and time.monotonic() < end, f"{what}: {self.log.read_text()[-3000:]}"
            time.sleep(1)

    def train(self, model: str, **params: Any) -> list[str]:
        """Train one epoch to the end, with MONAI Label's own defaults; returns the lines of its log."""
        self.client.train_start(model, {"max_epochs": 1} | params)
        self.wait_until(lambda: self.status() not in ("SUBMITTED", "RUNNING"), lambda: False, model, 600)
        log = self.client.train_status()["details"]
        assert self.status() == "DONE", "\n".join(log[-150:])
        return log

    def save_labels(self, folder: Path, images: str = "*.nii.gz") -> None:
        """Submit the label maps of these images in `folder`/imagesTr."""
        for image in sorted(folder.glob(f"imagesTr/{images}")):
            label = folder / "labelsTr" / image.name.replace("img", "label")
            self.client.save_label(image.name.removesuffix(".nii.gz"), str(label), tag="final")

    def weights(self, model: str) -> dict[str, torch.Tensor]:
        """The deployed weights."""
        return torch.load(self.models / model / "models" / "model.pt", weights_only=True)["model"]

    def status(self) -> str:
        """Of the last training."""
        return self.client.train_status()["status"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("label")
    write_btcv(folder, 2, shape=(40, 36, 32), spacing=(6.0, 6.0, 6.0), workers=1)
    write_msd(folder, 1, shape=(40, 44, 36), spacing=(4.0, 4.0, 4.0), workers=1)
    write_nih(folder, 2, shape=(300, 256), workers=1)
    (folder / "studies").mkdir()
    for image in [*folder.glob("imagesTr/*.nii.gz"), *folder.glob("images/*.png")]:
        shutil.copy(image, folder / "studies")
    server = Server(folder)
    with server.running():
        yield server
    assert not server.answers()


def by_command_line(server: Server, model: str, image: Path, output: Path) -> Path:
    """The folder with what the bundle in the server's own folder makes of `image`."""
    bundle = server.models / model
    config = str(bundle / "configs" / "inference.json")
    run(config_file=config, bundle_root=str(bundle), dataset_dir=str(image), output_dir=str(output), device="cpu")
    return output


def same_as_command_line(server: Server, model: str, image: Path, tmp_path: Path) -> np.ndarray:
    """Infer through the server; its label map has the image's grid, and the command line's numbers."""
    file, params = server.client.infer(model, image.name.removesuffix(".nii.gz"), {"device": "cpu"})
    found, source = nib.load(file), nib.load(image)
    labels = np.asarray(found.dataobj)
    assert found.shape == source.shape[:3]
    assert np.allclose(found.affine, source.affine, atol=1e-4)
    (expected,) = by_command_line(server, model, image, tmp_path).glob("*.nii.gz")
    assert (labels == np.asarray(nib.load(expected).dataobj)).all()
    metadata = json.loads((server.models / model / "configs" / "metadata.json").read_text())
    names = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert params["label_names"] == {name.lower(): int(number) for number, name in names.items() if number != "0"}
    assert set(np.unique(labels)) <= {int(number) for number in names}
    return labels


def test_bundles_are_listed_for_what_they_can_do(server: Server) -> None:
    info = server.client.info()
    assert set(info["models"]) == {"unetr_btcv", "unetr_brats", CLASSIFIER}
    assert set(info["trainers"]) == {"unetr_btcv", "unetr_brats", "mae_pretrain_ct"}
    assert info["models"]["unetr_btcv"]["type"] == "segmentation"
    assert info["models"][CLASSIFIER]["type"] == "classification"


@pytest.mark.parametrize(("model", "name"), [("unetr_btcv", "img0001"), ("unetr_brats", "BRATS_001")])
def test_a_segmentation_is_that_of_the_command_line(server: Server, model: str, name: str, tmp_path: Path) -> None:
    same_as_command_line(server, model, server.studies / f"{name}.nii.gz", tmp_path)


def test_findings_are_those_of_the_command_line(server: Server, tmp_path: Path) -> None:
    image = server.studies / "00000001_000.png"
    _, found = server.client.infer(CLASSIFIER, image.stem, {"device": "cpu"})
    output = by_command_line(server, CLASSIFIER, image, tmp_path) / f"{image.stem}_findings.json"
    expected = json.loads(output.read_text())["probabilities"]
    found = json.loads(found)["prediction"]
    assert [entry["label"] for entry in found] == [name.lower() for name in expected]
    assert [entry["score"] for entry in found] == pytest.approx(list(expected.values()), abs=1e-4)


def test_inference_leaves_no_file_beside_the_model(server: Server) -> None:
    server.client.infer(CLASSIFIER, "00000001_000", {"device": "cpu"})
    server.client.infer("unetr_brats", "BRATS_001", {"device": "cpu"})
    assert not list(server.models.glob("*/eval"))


@pytest.fixture(scope="module")
def labelled(server: Server) -> Server:
    """The server after the labels of both CTs were saved through it."""
    server.save_labels(server.studies.parent, "img*.nii.gz")
    return server


def changed_a_little(old: dict[str, torch.Tensor], new: dict[str, torch.Tensor]) -> bool:
    """Whether training went on from `old`: some weights differ, and all but the heads' hardly do."""
    differences = [(new[key].float() - old[key].float()).norm() / old[key].float().norm() for key in old]
    return max(differences) > 0 and float(torch.stack(differences).median()) < 0.1


def test_training_on_two_saved_labels_changes_the_segmentation(labelled: Server, tmp_path: Path) -> None:
    """Of two cases MONAI Label keeps none for validation."""
    image, old = labelled.studies / "img0001.nii.gz", labelled.weights("unetr_btcv")
    before = same_as_command_line(labelled, "unetr_btcv", image, tmp_path / "before")
    labelled.train("unetr_btcv")
    assert changed_a_little(old, labelled.weights("unetr_btcv"))
    after = same_as_command_line(labelled, "unetr_btcv", image, tmp_path / "after")
    assert (before != after).any()  # so the server has read the new weights


def test_pretraining_goes_on_from_the_shipped_weights(labelled: Server) -> None:
    old = labelled.weights("mae_pretrain_ct")
    labelled.train("mae_pretrain_ct")
    assert changed_a_little(old, labelled.weights("mae_pretrain_ct"))


def test_tumour_segmentation_is_trained_with_a_case_for_validation(tmp_path: Path) -> None:
    write_msd(tmp_path, 2, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    shutil.copytree(tmp_path / "imagesTr", tmp_path / "studies")
    own = Server(tmp_path)
    with own.running("--bundles", "bundles/unetr_brats"):
        old = own.weights("unetr_brats")
        own.save_labels(tmp_path)
        log = own.train("unetr_brats", val_split=0.5)
        assert any("Got new best metric" in line for line in log)
        assert changed_a_little(old, own.weights("unetr_brats"))


def test_a_bundle_of_ones_own_is_served_with_its_classes_and_trained(tmp_path: Path) -> None:
    size = {"img_size": [32, 32, 32], "patch_size": 8, "hidden_size": 24, "num_layers": 3, "num_heads": 2}
    weights = {"model": UNETR(1, 3, **size, feature_size=4).state_dict()}
    torch.save(weights, tmp_path / "model.pt")
    options = size | {"feature_size": 4, "spacing": [8, 8, 8], "class_names": ["liver", "tumour"]}
    bundle = own_bundle("unetr_btcv", str(tmp_path / "liver_segmentation"), str(tmp_path / "model.pt"), **options)
    write_btcv(tmp_path, 2, shape=(40, 36, 32), spacing=(6.0, 6.0, 6.0), workers=1)
    for path in tmp_path.glob("labelsTr/*.nii.gz"):  # liver and spleen become the two classes
        organs = nib.load(path)
        classes = np.select([organs.get_fdata() == 6, organs.get_fdata() == 1], [1, 2]).astype(np.uint8)
        nib.save(nib.Nifti1Image(classes, organs.affine), path)
    shutil.copytree(tmp_path / "imagesTr", tmp_path / "studies")
    own = Server(tmp_path)
    with own.running("--bundles", bundle):
        assert own.client.info()["models"]["liver_segmentation"]["labels"] == {"liver": 1, "tumour": 2}
        same_as_command_line(own, "liver_segmentation", own.studies / "img0001.nii.gz", tmp_path / "out")
        old = own.weights("liver_segmentation")
        own.save_labels(tmp_path)
        own.train("liver_segmentation")
        assert any((old[key] != value).any() for key, value in own.weights("liver_segmentation").items())
