"""Task bundles in other runtimes than PyTorch, by their configs: onnxruntime, and what TensorRT would be given."""

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import onnxruntime
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.networks.trt_compiler import TrtCompiler
from torch import nn

from custom.errors import find_input_error
from custom.files import case_name

from .conftest import ROOT, TINY, RunBundle

SEGMENTATION = {"unetr_btcv": "seg", "unetr_brats": "pred"}
BUNDLES = [*SEGMENTATION, "vit_cxr14"]


def infer(
    run_bundle: RunBundle, name: str, image: Path, weights: Path, output: Path, *more: str, **options: Any
) -> None:
    """Inference in single precision; the exported network goes to `cache` beside `output`."""
    known = {"dataset_dir": str(image), "checkpoint": str(weights), "cache_dir": str(output.parent / "cache")}
    run_bundle(name, "inference", *more, output=output, amp=False, **known | options)


@pytest.mark.slow
@pytest.mark.parametrize("name", SEGMENTATION)
def test_labels_of_onnxruntime_are_those_of_pytorch(
    name: str, run_bundle: RunBundle, tiny_weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    """But for 1 voxel in 1,000, where random weights leave classes nearly equal; windows do not fill batches of 5."""
    runs: dict[str, dict[str, Any]] = {"torch": {}, "onnx": {}, "batches": {"runtime": "onnx", "sw_batch_size": 5}}
    labels: dict[str, np.ndarray] = {}
    for run, options in runs.items():
        infer(run_bundle, name, images[name], tiny_weights[name], tmp_path / run, **{"runtime": run} | options)
        written = tmp_path / run / f"{case_name(images[name])}_{SEGMENTATION[name]}.nii.gz"
        labels[run] = np.asarray(nib.load(written).dataobj)
    assert len(np.unique(labels["torch"])) > 1
    for run in ("onnx", "batches"):
        assert (labels[run] != labels["torch"]).mean() < 1e-3
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_probabilities_of_onnxruntime_are_those_of_pytorch_and_relevance_is_still_drawn(
    run_bundle: RunBundle, tiny_weights: dict[str, Path], nih: Path, tmp_path: Path
) -> None:
    """To the last of four digits; 5 images in batches of 2."""
    name, folder = "vit_cxr14", tmp_path / "in"
    folder.mkdir()
    for path in sorted((nih / "images").iterdir())[:5]:
        (folder / path.name).symlink_to(path)
    for runtime in ("torch", "onnx"):
        infer(run_bundle, name, folder, tiny_weights[name], tmp_path / runtime, runtime=runtime)
    infer(
        run_bundle, name, folder, tiny_weights[name], tmp_path / "batches", "batch_inference",
        runtime="onnx", num_workers=0, batch_size=2,
    )  # fmt: skip
    for path in folder.iterdir():
        expected, found, batched = (
            json.loads((tmp_path / run / f"{path.stem}_findings.json").read_text())["probabilities"]
            for run in ("torch", "onnx", "batches")
        )
        assert found == pytest.approx(expected, abs=1.01e-4) and batched == pytest.approx(expected, abs=1.01e-4)
        assert (tmp_path / "onnx" / f"{path.stem}_relevance.png").stat().st_size > 10_000
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.slow
def test_the_exported_network_is_used_again_until_weights_change(
    run_bundle: RunBundle, tiny_weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    name, times = "vit_cxr14", []
    for run in ("one", "two"):
        infer(run_bundle, name, images[name], tiny_weights[name], tmp_path / run, runtime="onnx")
        times.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()})
    assert times[0] == times[1] and len(times[0]) == 1
    weights = torch.load(tiny_weights[name], weights_only=True)
    weights["model"]["head.bias"] += 4.0
    torch.save(weights, tmp_path / "other.pt")
    infer(run_bundle, name, images[name], tmp_path / "other.pt", tmp_path / "three", runtime="onnx")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    one, three = (json.loads(next((tmp_path / run).glob("*.json")).read_text()) for run in ("one", "three"))
    assert all(three["probabilities"][key] > value for key, value in one["probabilities"].items())


@pytest.mark.parametrize("name", BUNDLES)
def test_an_unknown_runtime_is_refused_before_anything_is_written(
    name: str, run_bundle: RunBundle, tiny_weights: dict[str, Path], images: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(Exception) as caught:
        infer(run_bundle, name, images[name], tiny_weights[name], tmp_path / "out", runtime="ONNX")
    assert str(find_input_error(caught.value)) == "runtime 'ONNX' is unknown; use 'torch' or 'onnx'"
    assert list(tmp_path.iterdir()) == []


def workflow_of(name: str, image: Path, weights: Path, **options: Any) -> ConfigWorkflow:
    """The inference of a tiny bundle with inference_trt.json, initialised."""
    root = ROOT / "bundles" / name
    files = [str(root / "configs" / f"{file}.json") for file in ("inference", "inference_trt")]
    known = {"bundle_root": str(root), "dataset_dir": str(image), "checkpoint": str(weights)}
    workflow = ConfigWorkflow(files, workflow_type="infer", **known | TINY[name] | options)
    workflow.initialize()
    return workflow


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
@torch.inference_mode()
def test_tensorrt_would_be_given_a_network_that_computes_the_same_for_every_batch_size(
    name: str, tiny_weights: dict[str, Path], images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of MONAI's trt_compile but TensorRT's own part, which needs a GPU."""
    batch = {"dataloader#batch_size": 3} if name == "vit_cxr14" else {"sw_batch_size": 3}
    parser = workflow_of(name, images[name], tiny_weights[name], **batch).parser
    network = parser.get_parsed_content("network").eval()
    compiler = TrtCompiler(network, str(tmp_path / "network.plan"), **parser.get_parsed_content("trt_args"))
    sessions: list[onnxruntime.InferenceSession] = []

    def instead_of_tensorrt(self: TrtCompiler, path: str) -> None:
        sessions.append(onnxruntime.InferenceSession(path))

    monkeypatch.setattr(TrtCompiler, "_onnx_to_trt", instead_of_tensorrt)
    shape = [parser.get_parsed_content(f"network_def#{key}") for key in ("in_channels", "img_size")]
    shape = [shape[0], *shape[1]]
    compiler._build_and_save(network, {"image": torch.rand(3, *shape)})
    assert compiler.profiles == [{"image": [[1, *shape], [3, *shape], [3, *shape]]}] and not compiler.return_dict
    for size in (1, 2, 3):
        image = torch.rand(size, *shape)
        (found,) = sessions[0].run(None, {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(image), rtol=0, atol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens where there is no GPU")
@pytest.mark.parametrize("name", BUNDLES)
def test_without_a_gpu_the_tensorrt_config_leaves_the_network_to_pytorch(
    name: str, tiny_weights: dict[str, Path], images: dict[str, Path]
) -> None:
    parser = workflow_of(name, images[name], tiny_weights[name]).parser
    predictor = parser.get_parsed_content("predictor")
    assert isinstance(predictor, nn.Module) and predictor is parser.get_parsed_content("evaluator").network
    assert predictor is parser.get_parsed_content("network") and not hasattr(predictor, "_trt_compiler")
