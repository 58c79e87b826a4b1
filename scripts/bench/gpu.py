"""ViT-B on a GPU: crops a second, share of the card's arithmetic, memory, and time spent waiting for data.

Training steps of the bundles' own parts (loader, loss, optimiser, bfloat16), and whole CTs through UNETR from image to
labels, each as it is and with torch.compile. The card is waited for after every step, as the progress bar's loss does
in training, so that what a step waits for its data is time in which the card does nothing.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.engines.utils import default_prepare_batch

from custom.data.phantoms.ct import write_btcv
from custom.inferers import has_bfloat16
from custom.study.flops import training_flops

from .configs import bundle_config
from .measure import Measured, Row, absent, alone, forget_peak, peak_mib
from .segment import SHAPE, write_ct, write_weights
from .segment import VIT_B as WIDTHS
from .work import inference_flops

PEAKS = {  # dense bfloat16 FLOP/s by vendor data sheets, sparsity off
    r"A100": 312e12,
    r"H100 80GB HBM3$": 989e12,
    r"H200": 989e12,
    r"L40S$": 362e12,
    r"RTX 4090$": 165e12,
}
VIT_B = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "num_workers": 8}
MAE_B = VIT_B | {"decoder_hidden_size": 384, "decoder_num_layers": 8, "decoder_num_heads": 12}
STEPS = 30


@dataclass(frozen=True)
class Case:
    """A bundle's training at one size; `options` as on its command line."""

    name: str
    bundle: str
    options: dict[str, Any]


CASES = (
    Case("ViT-B MAE 96^3, batch 24", "mae_pretrain_ct", MAE_B | {"batch_size": 6, "num_samples": 4}),
    Case("ViT-B MAE 128^3, batch 4", "mae_pretrain_ct", MAE_B | {"batch_size": 1, "img_size": [128, 128, 128]}),
    Case(
        "ViT-B UNETR 96^3, batch 4", "unetr_btcv", VIT_B | {"feature_size": 16, "batch_size": 1, "num_samples": 4}
    ),
)  # fmt: skip
UNITS = {"crops/s": "crops/s", "CTs/s": "CTs/s", "MFU": "% of peak", "memory": "GiB", "waiting": "% of time"}


def measure(pairs: int) -> list[Row]:
    """Rows without a baseline; where there is no GPU, one that says so."""
    if not torch.cuda.is_available():
        return [absent("training and inference of ViT-B on a GPU", "torch.cuda is not available")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_btcv(Path(folder) / "ct", 18, shape=(200, 160, 160), spacing=(1.5, 1.5, 2.0))
        ct, weights = write_ct(Path(folder) / "ct.nii.gz"), write_weights(Path(folder) / "model.pt", WIDTHS)
        jobs = {case.name: partial(train, case, folder) for case in CASES}
        jobs[f"ViT-B UNETR, CT of {' x '.join(map(str, SHAPE))}"] = partial(segment, CASES[-1], ct, weights)
        for name, job in jobs.items():
            for way, compiled in (("", False), (", torch.compile", True)):
                found = [job("cuda", compiled, STEPS) for _ in range(pairs)]
                rows += [alone(f"{name}{way}: {key}", UNITS[key], [one[key] for one in found]) for key in found[0]]
    return rows


def training_config(case: Case, folder: str, device: str) -> ConfigParser:
    """The training config of the case's bundle on the volumes in `folder`; it makes what is asked of it."""
    own = {"dataset_dir": f"{folder}/ct", "cache_dir": f"{folder}/cache", "split": "all", "validation_cases": 0}
    return bundle_config(case.bundle, "train", **own | {"device": torch.device(device)} | case.options)


def train(case: Case, folder: str, device: str, compiled: bool, steps: int) -> Measured:
    """Speed, MFU, memory and waiting of `steps` steps, after as many to fill the cache, compile and warm up."""
    parser = training_config(case, folder, device)
    step, batches = training_step(parser, device, compiled), endless(parser.get_parsed_content("train#dataloader"))
    for _ in range(steps):
        step(next(batches))
    start_memory = begin_memory(device)
    crops, waiting, start = 0, 0.0, time.perf_counter()
    for _ in range(steps):
        before = time.perf_counter()
        batch = next(batches)
        waiting += time.perf_counter() - before
        crops += step(batch)
    seconds = time.perf_counter() - start
    memory, flops = memory_gib(device, start_memory), training_flops(parser.get_parsed_content("network"))
    mfu = 100 * crops * flops / seconds / peak_flops(device)
    return {"crops/s": crops / seconds, "MFU": mfu, "memory": memory, "waiting": 100 * waiting / seconds}


def training_step(parser: ConfigParser, device: str, compiled: bool) -> Callable[[dict[str, Any]], int]:
    """What the bundle's trainer does with a batch; returns how many crops that had."""
    parts = ("network", "loss", "optimizer", "train#inferer")
    network, loss, optimizer, inferer = (parser.get_parsed_content(name) for name in parts)
    prepare = parser.get_parsed_content("prepare_batch") if "prepare_batch" in parser else default_prepare_batch
    applied = torch.compile(network) if compiled else network

    def step(batch: dict[str, Any]) -> int:
        image, target = prepare(batch, torch.device(device))
        optimizer.zero_grad(set_to_none=True)
        loss(inferer(image, applied), target).backward()
        optimizer.step()
        finish(device)
        return len(image)

    return step


@torch.inference_mode()
def segment(case: Case, ct: Path, checkpoint: Path, device: str, compiled: bool, steps: int) -> Measured:
    """A preprocessed CT through inference.json's inferer to labels, after one to warm up; `steps` counts windows."""
    own = {"dataset_dir": str(ct), "checkpoint": str(checkpoint), "device": torch.device(device), "num_workers": 0}
    parser = bundle_config(case.bundle, "inference", **case.options | own)
    flops = inference_flops(parser.get_parsed_content("network"))
    network, inferer = parser.get_parsed_content("predictor").eval(), parser.get_parsed_content("inferer")
    applied = torch.compile(network) if compiled else network
    image, windows = next(iter(parser.get_parsed_content("dataloader")))["image"].to(device), 0

    def counted(batch: torch.Tensor) -> torch.Tensor:
        nonlocal windows
        windows += len(batch)
        return applied(batch)

    inferer(image, counted)
    finish(device)
    start_memory, windows, done, start = begin_memory(device), 0, 0, time.perf_counter()
    while windows < steps:
        inferer(image, counted)
        done += 1
    finish(device)
    seconds, memory = time.perf_counter() - start, memory_gib(device, start_memory)
    mfu = 100 * windows * flops / seconds / peak_flops(device)
    return {"CTs/s": done / seconds, "MFU": mfu, "memory": memory}


def endless(loader: Any) -> Iterator[dict[str, Any]]:
    """Epoch after epoch, each with an iterator of its own, as ignite makes them."""
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def peak_flops(device: str) -> float:
    """Dense FLOP/s of the device, in bfloat16 where it has it: by its name, else the rate of a large matrix product."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    known = [peak for pattern, peak in PEAKS.items() if re.search(pattern, name)]
    return known[0] if known else matmul_rate(device, 8192 if device == "cuda" else 1024)


def matmul_rate(device: str, size: int, repeats: int = 10) -> float:
    """FLOP/s of products of two (size, size) matrices in what the bundles compute in, the fastest of `repeats`."""
    dtype = torch.bfloat16 if has_bfloat16(device) else torch.float32
    left, right = torch.rand(2, size, size, device=device, dtype=dtype)
    seconds = []
    for _ in range(repeats):
        finish(device)
        start = time.perf_counter()
        left @ right
        finish(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def finish(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def begin_memory(device: str) -> float:
    """Forget the peak so far; what `memory_gib` needs to know of now."""
    if device != "cuda":
        return forget_peak()
    torch.cuda.reset_peak_memory_stats()
    return 0.0


def memory_gib(device: str, start: float) -> float:
    """Largest memory since `begin_memory` in GiB: all tensors on a GPU, on a CPU what came on top."""
    return torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else peak_mib(start) / 1024
