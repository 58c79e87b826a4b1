"""One window or image through the shipped networks on the CPU: bfloat16 and onnxruntime against single precision."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from custom.inferers import has_bfloat16
from custom.runtimes import example, with_runtime

from .measure import ROOT, Row, absent, compare

BUNDLES = ("unetr_btcv", "unetr_brats", "vit_cxr14")
SINGLE, BFLOAT16, ONNX = "PyTorch", "PyTorch in bfloat16", "onnxruntime"


def measure(pairs: int) -> list[Row]:
    """Milliseconds of each way and bundle; the baseline is PyTorch in single precision, and all ways take turns."""
    rows = []
    for name in BUNDLES:
        network = shipped_network(name)
        with tempfile.TemporaryDirectory() as folder:
            rounds = take_rounds(ways_to_run(network, example(network, 1), folder), pairs)
        for way in (BFLOAT16, ONNX):
            label = f"{name}, one window: {way} against PyTorch"
            sides = [({"ms": one[way]}, {"ms": one[SINGLE]}) for one in rounds if way in one]
            rows.append(compare(label, "ms", "ms", sides) if sides else absent(label, "this CPU has no bfloat16"))
    return rows


def shipped_network(name: str) -> nn.Module:
    """The network of a bundle's inference.json with the attention that is chosen for CPUs."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / name / "configs" / "inference.json"))
    parser.update({"bundle_root": str(ROOT / "bundles" / name), "device": "cpu", "attention": "explicit"})
    return parser.get_parsed_content("network").eval()


def ways_to_run(network: nn.Module, image: Tensor, cache_dir: str) -> dict[str, Callable[[], Tensor]]:
    """The same image through PyTorch in each number type that the CPU has, and through onnxruntime."""
    exported = with_runtime(network, "onnx", cache_dir)

    def in_bfloat16() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(image)

    ways: dict[str, Callable[[], Tensor]] = {SINGLE: lambda: network(image), ONNX: lambda: exported(image)}
    return ways | ({BFLOAT16: in_bfloat16} if has_bfloat16("cpu") else {})


@torch.inference_mode()
def take_rounds(ways: dict[str, Callable[[], Tensor]], count: int) -> list[dict[str, float]]:
    """Milliseconds of every way in `count` rounds, after one to warm up."""
    return [{name: milliseconds(way) for name, way in ways.items()} for _ in range(count + 1)][1:]


def milliseconds(way: Callable[[], Tensor]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    way()
    return 1000 * (time.perf_counter() - start)
