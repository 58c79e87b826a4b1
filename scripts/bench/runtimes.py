"""Time of one window or image in PyTorch and in onnxruntime, on the CPU: `python -m scripts.bench_runtimes`.

The default network of each task bundle with its shipped weights, one window at a time. All ways take turns, so that
whatever else the machine does meets them alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import fire
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from custom.inferers import has_bfloat16
from custom.runtimes import example, with_runtime

ROOT = Path(__file__).resolve().parents[2]
BUNDLES = ("unetr_btcv", "unetr_brats", "vit_cxr14")


def bench(repeats: int = 10, threads: int = 2) -> None:
    """Print medians of `repeats` rounds, in milliseconds, with `threads` threads."""
    torch.set_num_threads(threads)
    for name in BUNDLES:
        network = shipped_network(name)
        image = example(network, 1)
        with tempfile.TemporaryDirectory() as folder:
            found = medians(ways_to_run(network, image, folder), repeats)
        times = "   ".join(f"{way} {1000 * seconds:.0f} ms" for way, seconds in found.items())
        sys.stdout.write(f"{name:12} {tuple(image.shape)}, {threads} threads:   {times}\n")


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

    ways: dict[str, Callable[[], Tensor]] = {"PyTorch": lambda: network(image)}
    if has_bfloat16("cpu"):
        ways["PyTorch bfloat16"] = in_bfloat16
    return ways | {"onnxruntime": lambda: exported(image)}


@torch.inference_mode()
def medians(ways: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Median seconds of each way, taking turns, after a round to warm up."""
    rounds = [{name: seconds(way) for name, way in ways.items()} for _ in range(repeats + 1)][1:]
    return {name: median(times[name] for times in rounds) for name in ways}


def seconds(way: Callable[[], Tensor]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


if __name__ == "__main__":
    fire.Fire(bench)
