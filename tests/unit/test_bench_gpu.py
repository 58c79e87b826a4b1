"""The benchmark's own arithmetic, GPU rows at tiny size on the CPU, and what the report says was not measured."""

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from custom.networks import MAE
from custom.study.flops import training_flops
from scripts.bench import gpu
from scripts.bench.measure import absent, alone, compare
from scripts.bench.report import table, write_report
from scripts.tiny import IMAGES, TINY, write_data, write_weights


def block_flops(tokens: int, width: int) -> int:
    """Two operations a multiply-add: qkv and projection, both MLP layers, scores and their use."""
    return 2 * tokens * width * (3 + 1 + 4 + 4) * width + 2 * 2 * tokens * tokens * width


def test_counted_flops_of_a_mae_are_those_of_its_matrix_products() -> None:
    width, narrow, patch, grid = 48, 24, 8, (4, 4, 4)
    mae = MAE(1, [32] * 3, patch, width, 3, 2, None, narrow, 2, 2, masking_ratio=0.75)
    visible, patches, vector = prod(grid) // 4, prod(grid), patch**3
    embedding = 2 * visible * vector * width
    encoder = embedding + 3 * block_flops(1 + visible, width)
    decoder = 2 * (1 + visible) * width * narrow + 2 * block_flops(1 + patches, narrow)
    head = 2 * (patches - visible) * narrow * vector
    # Backward costs twice the forward, but no gradient flows into the image.
    assert training_flops(mae) == 3 * (encoder + decoder + head) - embedding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated CTs in `ct`, as `gpu.measure` makes one."""
    folder = tmp_path_factory.mktemp("gpu")
    write_data("btcv", folder / "ct")
    return folder


def tiny(case: gpu.Case) -> gpu.Case:
    """The case with a network for seconds on a CPU."""
    return replace(case, options=TINY[case.bundle] | {"batch_size": 2, "num_samples": 2, "num_workers": 0})


@pytest.mark.parametrize("case", [gpu.CASES[0], gpu.CASES[-1]], ids=lambda case: case.bundle)
def test_a_training_row_can_be_measured(case: gpu.Case, folder: Path) -> None:
    found = gpu.train(tiny(case), str(folder), "cpu", compiled=False, steps=2)
    assert found["crops/s"] > 0
    assert 0 < found["MFU"] < 100
    assert 0 <= found["waiting"] < 100


def test_the_inference_row_can_be_measured(folder: Path) -> None:
    weights = write_weights("unetr_btcv", ["inference"], folder / "unetr.pt")
    found = gpu.segment(tiny(gpu.CASES[-1]), folder / "ct" / IMAGES["btcv"], weights, "cpu", compiled=False, steps=1)
    assert found["CTs/s"] > 0
    assert 0 < found["MFU"] < 100


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA A100-SXM4-80GB", 312), ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H200", 989), ("NVIDIA L40S", 362)],
)
def test_a_known_card_has_the_peak_of_its_data_sheet(name: str, peak: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: name)
    assert gpu.peak_flops("cuda") == peak * 1e12


def test_a_card_that_is_not_listed_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "NVIDIA H100 PCIe")
    monkeypatch.setattr(gpu, "matmul_rate", lambda device, size: 123.0)
    assert gpu.peak_flops("cuda") == 123.0


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_peak_is_measured_in_what_the_bundles_compute_in(
    native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def recorded(*size: int, **kwargs: Any) -> torch.Tensor:
        made.append(torch.zeros(*size, **kwargs))
        return made[0]

    monkeypatch.setattr(gpu, "has_bfloat16", lambda device: native)
    monkeypatch.setattr(torch, "rand", recorded)
    assert gpu.matmul_rate("cpu", 16) > 0
    assert made[0].dtype == dtype


def test_the_report_lists_what_was_not_measured(tmp_path: Path) -> None:
    measured = [{"ours": {"s": 1.0}, "MONAI": {"s": 3.0}}, {"ours": {"s": 2.0}, "MONAI": {"s": 4.0}}]
    rows = [compare("speed", "s", "s", measured, "MONAI"), absent("a GPU", "no GPU here"), alone("size", "MiB", [5.0])]
    write_report(rows, tmp_path, threads=1)
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "Not measured: a GPU (no GPU here)." in text
    assert "| a GPU" not in text
    assert "| size | 5 MiB |" in text
    assert "Not measured" not in table(rows[:1])
