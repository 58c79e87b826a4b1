"""One window or image through the shipped networks on the CPU: bfloat16 and onnxruntime against single precision."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

from custom.inferers import has_bfloat16
from custom.runtimes import example

from .configs import CPU, bundle_config, shipped_network
from .measure import Measured, Row, absent, compare, take_turns

BUNDLES = ("unetr_btcv", "unetr_brats", "vit_cxr14")
SINGLE, BFLOAT16, ONNX = "PyTorch, float32", "PyTorch, bfloat16", "onnxruntime, float32"


def measure(pairs: int) -> list[Row]:
    """Milliseconds of each way and bundle; all ways take turns."""
    rows = []
    for name in BUNDLES:
        with tempfile.TemporaryDirectory() as folder:
            measured = take_turns(ways_to_run(name, folder), pairs)
        for way in (BFLOAT16, ONNX):
            label = f"{name}, one window: {way}"
            here = way in measured[0]
            rows.append(
                compare(label, "ms", "ms", measured, SINGLE, ours=way)
                if here
                else absent(label, "this CPU has no bfloat16")
            )
    return rows


def ways_to_run(name: str, cache_dir: str) -> dict[str, Callable[[], Measured]]:
    """The same image through a bundle's network and through what its inference.json makes of it, `predictor`."""
    network = shipped_network(name)
    image = example(network, 1)
    exported, kept = (
        bundle_config(name, "inference", **CPU, runtime=runtime, cache_dir=cache_dir).get_parsed_content("predictor")
        for runtime in ("onnx", "torch")
    )

    def in_bfloat16() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return kept.eval()(image)

    ways: dict[str, Callable[[], Tensor]] = {SINGLE: lambda: network(image), ONNX: lambda: exported(image)}
    ways |= {BFLOAT16: in_bfloat16} if has_bfloat16("cpu") else {}
    return {way: lambda call=call: milliseconds(call) for way, call in ways.items()}


@torch.inference_mode()
def milliseconds(way: Callable[[], object]) -> Measured:
    """How long one call takes, "ms"."""
    start = time.perf_counter()
    way()
    return {"ms": 1000 * (time.perf_counter() - start)}
