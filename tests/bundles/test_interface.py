"""One command works from the project's root, the bundle's root and /; `load`, checks and export in a packed folder."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from custom.files import case_name
from scripts.tiny import ROOT, TINY

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
    files = ["--config_file", "configs/inference.json", "--meta_file", "configs/metadata.json"]
    checked = monai("verify_net_in_out", "network_def", *files, cwd=packed / name)
    assert checked.returncode == 0, checked.stderr[-2000:]
    out = tmp_path / "model.ts"
    words = ["--net_id", "network_def", "--filepath", str(out), "--ckpt_file", "models/model.pt", *files]
    exported = monai("ckpt_export", *words, "--key_in_ckpt", "model", cwd=packed / name)
    assert exported.returncode == 0 and out.is_file(), exported.stderr[-2000:]


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
