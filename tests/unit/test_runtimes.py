"""Networks exported to ONNX compute in onnxruntime what they compute in PyTorch."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from custom import runtimes
from custom.errors import InputError
from custom.networks import MAE, UNETR, ViTClassifier
from custom.runtimes import (
    OnnxNetwork,
    check_export,
    example,
    export_onnx,
    keep_bfloat16,
    network_digest,
    with_runtime,
)

from ..bundles.conftest import ROOT, shipped_network

SIZE: dict[str, Any] = {"patch_size": 8, "hidden_size": 24, "num_layers": 3, "num_heads": 2}
KINDS = {
    "UNETR 3D": lambda: UNETR(4, 3, [16, 24, 32], feature_size=4, **SIZE),
    "UNETR 3D, fused attention, other skips": lambda: UNETR(
        1, 14, [16] * 3, feature_size=4, attention="sdpa", skip_layers=[0, 2], **SIZE
    ),
    "UNETR 3D, explicit attention": lambda: UNETR(1, 2, [16] * 3, feature_size=4, attention="explicit", **SIZE),
    "UNETR 2D": lambda: UNETR(1, 3, [16, 32], feature_size=4, **SIZE),
    "classifier 2D": lambda: ViTClassifier(1, [32, 16], num_classes=14, pos_embed="learnable", **SIZE),
    "classifier 2D, three channels": lambda: ViTClassifier(3, [16, 16], num_classes=2, attention="explicit", **SIZE),
    "classifier 3D": lambda: ViTClassifier(1, [16, 8, 8], num_classes=2, **SIZE),
}
BUNDLES = ["unetr_btcv", "unetr_brats", "vit_cxr14"]


def tiny(kind: str = "classifier 2D", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return KINDS[kind]().eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_outputs_agree_for_every_batch_size(kind: str, tmp_path: Path) -> None:
    network = tiny(kind)
    export_onnx(network, tmp_path / "network.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]  # weights inside, nothing left over
    exported = OnnxNetwork(tmp_path / "network.onnx")
    for batch in (1, 2, 5):
        image = torch.randn(batch, *example(network, 1).shape[1:])
        torch.testing.assert_close(exported(image), network(image), rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
@torch.inference_mode()
def test_shipped_weights_agree(name: str, tmp_path: Path) -> None:
    """To 1e-4 of the largest logit."""
    network = shipped_network(name)
    exported = with_runtime(network, "onnx", tmp_path)
    for batch in (1, 3):
        image = example(network, batch)
        expected = network(image)
        atol = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(exported(image), expected, rtol=0, atol=atol)


def test_torch_is_the_network_itself(tmp_path: Path) -> None:
    network = tiny()
    assert with_runtime(network, "torch", tmp_path / "cache") is network
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_kept_in_bfloat16_give_what_autocast_gives(kind: str, tmp_path: Path) -> None:
    network = KINDS[kind]().eval()
    image = example(network, 2)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected = network(image)
        kept = keep_bfloat16(copy.deepcopy(network))
        assert torch.equal(kept(image), expected)
    sizes = [sum(p.numel() * p.element_size() for p in one.parameters()) for one in (network, kept)]
    assert sizes[1] < 0.7 * sizes[0]
    assert network.state_dict().keys() == kept.state_dict().keys()


@pytest.mark.parametrize(
    ("amp", "hardware", "dtype"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_weights_are_kept_in_bfloat16_if_wanted_and_native(
    amp: bool, hardware: bool, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("custom.runtimes.has_bfloat16", lambda _: hardware)
    network = with_runtime(tiny(), "torch", tmp_path, amp)
    assert network.head.weight.dtype == dtype and network.norm.weight.dtype == torch.float32


@torch.inference_mode()
def test_autocast_and_gradients_around_it_change_nothing(tmp_path: Path) -> None:
    exported, image = with_runtime(tiny(), "onnx", tmp_path), torch.rand(2, 1, 32, 16)
    expected = exported(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(exported(image), expected) and expected.dtype == torch.float32
    with torch.inference_mode(False):
        assert torch.equal(exported(image.clone().requires_grad_()), expected)


def test_it_takes_as_many_threads_as_pytorch(tmp_path: Path) -> None:
    options = with_runtime(tiny(), "onnx", tmp_path).session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()


def test_a_second_use_takes_the_file_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_runtime(tiny(), "onnx", tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("vitclassifier_") and path.suffix == ".onnx"
    monkeypatch.setattr(runtimes, "export_onnx", lambda *_: pytest.fail("exported again"))
    with_runtime(tiny().train(), "onnx", tmp_path)


CHANGES = {
    "one weight": lambda network: network.blocks[1].mlp.fc1.bias.data[0].add_(1e-6),
    "heads": lambda network: setattr(network.blocks[0].attn, "num_heads", 4),
    "an epsilon": lambda network: setattr(network.norm, "eps", 1e-5),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_outputs_changes_the_name(change: str) -> None:
    network = tiny()
    before = network_digest(network)
    CHANGES[change](network)
    assert network_digest(network) != before


def test_options_that_leave_no_trace_in_the_weights_change_the_name() -> None:
    one, other = (UNETR(1, 2, [16] * 3, skip_layers=skips, **SIZE) for skips in ([0, 1], [1, 2]))
    other.load_state_dict(one.state_dict())
    assert network_digest(one) != network_digest(other)


def test_the_name_is_the_same_in_another_process() -> None:
    code = "from tests.unit.test_runtimes import *; print(network_digest(tiny()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == network_digest(tiny())


def test_an_export_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export_onnx(tiny(seed=1), tmp_path / "other.onnx")
    with pytest.raises(InputError, match="differs from PyTorch"):
        check_export(tiny(), tmp_path / "other.onnx")
    monkeypatch.setattr(runtimes, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="use runtime 'torch'"):
        export_onnx(tiny(), tmp_path / "network.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["other.onnx"]


def test_what_cannot_run_is_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"runtime 'tensorflow' is unknown; use 'torch' or 'onnx'"):
        with_runtime(tiny(), "tensorflow", tmp_path)
    with pytest.raises(InputError, match="cannot run a MAE; use runtime 'torch'"):
        with_runtime(MAE(1, [16, 16], 8, 24, 1, 2, None, 24, 1, 2), "onnx", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another folder"):
        with_runtime(tiny(), "onnx", tmp_path / "file")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(InputError, match="pip install onnxruntime, or use runtime 'torch'"):
        with_runtime(tiny(), "onnx", tmp_path)


@torch.inference_mode()
def test_a_damaged_export_is_made_again(tmp_path: Path) -> None:
    network = tiny()
    image = example(network, 1)
    with_runtime(network, "onnx", tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    torch.testing.assert_close(with_runtime(network, "onnx", tmp_path)(image), network(image), rtol=0, atol=2e-5)


def test_a_head_of_zeros_can_be_exported(tmp_path: Path) -> None:
    network = tiny()
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    export_onnx(network, tmp_path / "network.onnx")
    assert (OnnxNetwork(tmp_path / "network.onnx")(example(network, 1)) == 0).all()


def test_onnxruntime_reports_nothing_to_its_maker(tmp_path: Path) -> None:
    """It would leave an identifier of the device below the home folder."""
    code = "from custom.runtimes import open_session\ntry: open_session('none.onnx')\nexcept Exception: pass"
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
    environment = kept | {"HOME": str(home), "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, env=environment, check=True)
    assert not [path for path in home.rglob("*") if "onnxruntime" in path.name]
