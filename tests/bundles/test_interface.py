"""One command works from the project's root, the bundle's root and /; `load`, checks and export in a packed folder."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest
import torch

from custom.files import case_name
from custom.runtimes import OnnxNetwork, example
from scripts.tiny import ROOT, TINY

from .conftest import shipped_network

OUTPUT = {
    "mae_pretrain_ct": "reconstruction.nii.gz",
    "unetr_btcv": "seg.nii.gz",
    "unetr_brats": "pred.nii.gz",
    "vit_cxr14": "findings.json",
}
BUNDLES = list(OUTPUT)


def monai(*words: str, cwd: Path | str) -> subprocess.CompletedProcess:
    """`python -m monai.bundle ...` as a user types it, without PYTHONPATH."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def options(name: str, image: Path, weights: Path, output: Path) -> list[str]:
    """Command-line options for a tiny inference."""
    words = {"dataset_dir": image, "output_dir": output, "checkpoint": weights} | TINY[name]
    return [word for key, value in words.items() for word in (f"--{key}", str(value))]


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("place", ["root", "bundle", "/"])
def test_inference_runs_from_any_directory(
    name: str, place: str, tiny_weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    image = images[name]
    words = options(name, image, tiny_weights[name], tmp_path / "out")
    bundle = ROOT / "bundles" / name
    config, root, cwd = {
        "root": (f"bundles/{name}/configs/inference.json", ["--bundle_root", f"bundles/{name}"], ROOT),
        "bundle": ("configs/inference.json", [], bundle),
        "/": (str(bundle / "configs/inference.json"), ["--bundle_root", str(bundle)], "/"),
    }[place]
    done = monai("run", "--config_file", config, *root, *words, cwd=cwd)
    assert done.returncode == 0, done.stderr[-2000:]
    output = tmp_path / "out" / f"{case_name(image)}_{OUTPUT[name]}"
    if name == "vit_cxr14":
        assert len(json.loads(output.read_text())["probabilities"]) == 14
    else:
        assert nib.load(output).shape == nib.load(image).shape[:3]


@pytest.mark.slow
def test_load_works_on_a_packed_copy_as_documented(packed: Path, tmp_path: Path) -> None:
    """`load` adds nothing to sys.path, so the documentation says to run it from the bundle's own folder."""
    code = (
        "from monai.bundle import load; "
        f"w = load('unetr_btcv', bundle_dir={str(packed)!r}, workflow_type='inference', "
        "key_in_ckpt='model'); "
        "import torch; shipped = torch.load('models/model.pt', weights_only=True)['model']; "
        "print(type(w).__name__, all(torch.equal(v, shipped[k].to(v.dtype)) for k, v in w.state_dict().items()))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(
        command, cwd=packed / "unetr_btcv", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "UNETR True" in done.stdout  # every tensor is the shipped one


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_net_in_out_and_torchscript_export(name: str, packed: Path, tmp_path: Path) -> None:
    """What was exported computes what the network computes, but for the random masks of a masked autoencoder."""
    files = ["--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json"]
    checked = monai("verify_net_in_out", "network_def", *files, cwd=packed / name)
    assert checked.returncode == 0, checked.stderr[-2000:]
    out = tmp_path / "model.ts"
    words = ["--net_id", "network_def", "--filepath", str(out), "--ckpt_file", "models/model.pt", *files]
    exported = monai("ckpt_export", *words, "--key_in_ckpt", "model", cwd=packed / name)
    assert exported.returncode == 0, exported.stderr[-2000:]
    network, script = shipped_network(name), torch.jit.load(out, map_location="cpu").eval()
    if name == "mae_pretrain_ct":
        shipped = network.state_dict()
        assert all(torch.equal(value.cpu(), shipped[key]) for key, value in script.state_dict().items())
    else:
        with torch.inference_mode():
            image = example(network, 1)
            torch.testing.assert_close(script(image), network(image), rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unetr_btcv", "unetr_brats", "vit_cxr14"])
@torch.inference_mode()
def test_monais_onnx_export_takes_any_batch_with_the_documented_command(
    name: str, packed: Path, tmp_path: Path
) -> None:
    """The command is read from the bundle's page."""
    page = (packed / name / "docs" / "README.md").read_text()
    (command,) = re.findall(r"^python -m monai\.bundle (onnx_export .*)$", page, flags=re.MULTILINE)
    words = shlex.split(command.replace("model.onnx", str(tmp_path / "model.onnx")))
    exported = monai(*words, cwd=packed / name)
    assert exported.returncode == 0, exported.stderr[-2000:]
    network, onnx = shipped_network(name), OnnxNetwork(tmp_path / "model.onnx")
    for batch in (1, 2, 3):
        image = example(network, batch)
        torch.testing.assert_close(onnx(image), network(image), rtol=0, atol=2e-3)


@pytest.mark.parametrize(("fault", "words"), [
    ("missing folder", ["/does/not/exist"]),
    ("empty folder", []),
    ("truncated file", []),
    ("not a checkpoint", []),
])  # fmt: skip
@pytest.mark.slow
def test_a_fault_ends_with_one_sentence_a_status_and_no_output(
    fault: str, words: list[str], btcv: Path, tiny_weights: dict[str, Path], tmp_path: Path
) -> None:
    image, weights = tmp_path / "in", tiny_weights["unetr_btcv"]
    image.mkdir()
    if fault == "truncated file":
        image = image / "cut.nii.gz"
        image.write_bytes((btcv / "imagesTr" / "img0001.nii.gz").read_bytes()[:20_000])
    if fault == "not a checkpoint":
        weights = tmp_path / "weights.pt"
        weights.write_text("text")
        shutil.copy(btcv / "imagesTr" / "img0001.nii.gz", image)
    named = words[0] if words else str(image if fault != "not a checkpoint" else weights)
    source = Path(words[0]) if words else image
    bundle = ROOT / "bundles" / "unetr_btcv"
    config = ["--config_file", str(bundle / "configs/inference.json"), "--bundle_root", str(bundle)]
    done = monai("run", *config, *options("unetr_btcv", source, weights, tmp_path / "out"), cwd="/")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ERROR: ") and named in last and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("out/*"))
