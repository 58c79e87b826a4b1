"""Plans past one machine, on paper: the tables of docs/scaling.md.

`python -m scripts.bench.scaling tables` prints them, with any field of `Assumptions` as an option (`--mfu 0.4`);
`python -m scripts.bench.scaling loading` measures what the loader costs on this machine. Nothing else here is measured.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, inf, prod, sqrt
from pathlib import Path
from statistics import median
from typing import Any

import fire
import torch
from torch import nn

from custom.data.phantoms.ct import write_btcv
from custom.networks import MAE, UNETR

from .gpu import MAE_B, Case, parts_of
from .work import Work, training_work

GPUS = (8, 64, 512)
BTCV = "MAE 96^3, 75 % masked"
PAGE = 4096  # bytes that a memory-mapped file is read in at least


Works = dict[str, tuple[Work, tuple[int, ...]]]  # of one crop, and its size


@dataclass(frozen=True)
class Assumptions:
    """Numbers that docs/scaling.md gives with their sources; rates in bytes, FLOPs or crops a second."""

    peak: float = 989e12
    mfu: float = 0.3
    launch_seconds: float = 5e-6
    nvlink: float = 450e9
    infiniband: float = 50e9
    link_efficiency: float = 0.7
    gpus_per_node: int = 8
    cores_per_gpu: int = 14
    node_memory: float = 2e12
    node_disk: float = 30e12
    memory_share: float = 0.8
    disk_rate: float = 50e9
    storage_rate: float = 25e9
    crop_cpu_seconds: float = 6.3e-3
    volume_cpu_seconds: float = 2.4
    volume_shape: tuple[int, ...] = (204, 154, 187)
    file_bytes: float = 41 * 2**20
    volumes: int = 1_000_000
    epochs: int = 100
    crops_per_visit: int = 4
    largest_batch: int = 4096
    crops_per_gpu: int = 96
    hash_rate: float = 0.84e9
    checkpoint_seconds: float = 1.0
    failures_per_gpu_day: float = 419 / 54 / 16384


@dataclass(frozen=True)
class Plan:
    """One workload on `gpus` GPUs. Ceilings are crops a second and GPU."""

    gpus: int
    batch: int
    ceilings: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """The lowest ceiling."""
        return min(self.ceilings, key=self.ceilings.__getitem__)

    @property
    def rate(self) -> float:
        """Crops a second of all GPUs."""
        return self.gpus * self.ceilings[self.bottleneck]


def crop_bytes(volume: tuple[int, ...], roi: tuple[int, ...], item: int = 2) -> tuple[int, int]:
    """Bytes of a crop, and of the pages that hold it in a volume on disk (last axis contiguous)."""
    length = item * ((roi[1] - 1) * volume[2] + roi[2])  # of one slab along the first axis
    return item * prod(roi), roi[0] * PAGE * (ceil(length / PAGE) + 1)


def all_reduce_seconds(size: float, gpus: int, known: Assumptions) -> float:
    """Sum `size` bytes over all GPUs: rings over NVLink in each machine, and of each part between the machines."""
    local = min(gpus, known.gpus_per_node)
    machines = ceil(gpus / known.gpus_per_node)
    inside = 2 * (local - 1) / local * size / known.nvlink
    between = 2 * (machines - 1) / machines * (size / local) / known.infiniband
    return (inside + between) / known.link_efficiency


def read_rate(gpus: int, known: Assumptions) -> tuple[str, float]:
    """Where the cache fits when every machine keeps a part of it, and bytes a second for each machine from there."""
    part = known.volumes * 2 * prod(known.volume_shape) / ceil(gpus / known.gpus_per_node)
    if part <= known.memory_share * known.node_memory:
        return "memory", inf
    return ("disk", known.disk_rate) if part <= known.node_disk else ("storage", known.storage_rate)


def plan(work: Work, roi: tuple[int, ...], gpus: int, known: Assumptions) -> Plan:
    """What each resource allows. Gradients (single precision) travel during the backward, two thirds of the work."""
    batch = min(known.crops_per_gpu, known.largest_batch // gpus)
    arithmetic = batch * work.flops / (known.peak * known.mfu)
    exposed = max(0.0, all_reduce_seconds(4 * work.parameters, gpus, known) - arithmetic * 2 / 3)
    place, rate = read_rate(gpus, known)
    ceilings = {
        "compute": batch / arithmetic,
        "launches": batch / (work.launches * known.launch_seconds),
        "network": batch / (arithmetic + exposed) if exposed else inf,
        "CPU": known.cores_per_gpu / known.crop_cpu_seconds,
        place: rate / known.gpus_per_node / crop_bytes(known.volume_shape, roi)[1],
    }
    return Plan(gpus, batch, ceilings)


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """The paper's networks and the size of their crops."""
    small, large = (96, 96, 96), (128, 128, 128)
    return {
        BTCV: (MAE(1, small, 16), small),
        "MAE 96^3, 12.5 % masked": (MAE(1, small, 16, masking_ratio=0.125), small),
        "MAE 128^3, 75 % masked": (MAE(1, large, 16), large),
        "UNETR 96^3, 14 classes": (UNETR(1, 14, small), small),
    }


def tables(**assumptions: float) -> None:
    """Print the tables of docs/scaling.md as Markdown."""
    known = Assumptions(**assumptions)
    works = {name: (training_work(network), roi) for name, (network, roi) in networks().items()}
    parts = [make(works, known) for make in (work_table, plan_table, btcv_table, run_table)]
    sys.stdout.write("\n\n".join(parts) + "\n")


def work_table(works: Works, known: Assumptions) -> str:
    """What a crop asks."""
    heads = ["a crop of", "GFLOP", "launches a step", "kept for backward, MB", "on disk, MB", "read, MB"]
    lines = []
    for name, (work, roi) in works.items():
        disk, read = crop_bytes(known.volume_shape, roi)
        numbers = [work.flops / 1e9, work.launches, 2 * work.saved / 1e6, disk / 1e6, read / 1e6]
        lines.append([name, *numbers, 4 * work.parameters / 1e6, 16 * work.parameters / 1e9])
    return markdown([*heads, "gradients, MB", "weights, gradients and AdamW, GB"], lines)


def plan_table(works: Works, known: Assumptions) -> str:
    """What limits each workload on each number of GPUs."""
    heads = ["workload", "GPUs", "crops a GPU and step", "compute", "launches", "network", "CPU", "reading"]
    lines = []
    for name, (work, roi) in works.items():
        for gpus in GPUS:
            found = plan(work, roi, gpus, known)
            lines.append([name, gpus, found.batch, *found.ceilings.values(), found.bottleneck, found.rate])
    return markdown([*heads, "limit", "crops/s in all"], lines)


def btcv_table(works: Works, known: Assumptions) -> str:
    """The paper's pre-training on BTCV: steps of 6 cases, 4 crops each, on as many GPUs as divide the cases."""
    work, roi = works[BTCV]
    lines = []
    for gpus in (1, 2, 6):
        known = replace(known, volumes=18, crops_per_gpu=24 // gpus)
        found = plan(work, roi, gpus, known)
        lines.append([str(gpus), *found.ceilings.values(), found.bottleneck, 30_000 * 24 / found.rate / 60])
    return markdown(["GPUs", "compute", "launches", "network", "CPU", "reading", "limit", "minutes"], lines)


def run_table(works: Works, known: Assumptions) -> str:
    """Hours of a pre-training on many volumes, of what comes before it, and what fails meanwhile."""
    work, roi = works[BTCV]
    heads = ["GPUs", "hours of training", "hours of hashing", "hours of preprocessing", "TB of cache a machine"]
    hash_rate = min(known.hash_rate, known.storage_rate / known.gpus_per_node)
    cache = known.volumes * 2 * prod(known.volume_shape) / 1e12
    lines = []
    for gpus in GPUS:
        crops = known.volumes * known.epochs * known.crops_per_visit
        hashing = known.volumes * known.file_bytes / hash_rate  # each process reads every file
        preparing = known.volumes * known.volume_cpu_seconds / (gpus * known.cores_per_gpu)
        failures = known.failures_per_gpu_day * gpus
        hours = [seconds / 3600 for seconds in (crops / plan(work, roi, gpus, known).rate, hashing, preparing)]
        interval = sqrt(2 * known.checkpoint_seconds * 86400 / failures) / 60  # Young's rule
        lines.append([str(gpus), *hours, cache * known.gpus_per_node / gpus, failures, interval])
    return markdown([*heads, "failures a day", "minutes between checkpoints"], lines)


def markdown(heads: list[str], lines: list[list[Any]]) -> str:
    """A table; numbers have three digits at most, more than a plan can know."""
    cells = [heads, ["---"] * len(heads), *([shown(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def shown(value: float | str) -> str:
    """Text as it is; no ceiling as a dash."""
    if isinstance(value, str):
        return value
    return "-" if value == inf else f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def loading(epochs: int = 10) -> None:
    """Print what loading costs a CPU core of this machine: a crop, opening an entry, a CT, and hashing its file."""
    with tempfile.TemporaryDirectory() as folder:
        write_btcv(Path(folder) / "ct", 6, shape=(240, 200, 187), spacing=(1.5, 1.5, 2.0))
        write_btcv(Path(folder) / "large", 1, shape=(512, 512, 150), spacing=(0.75, 0.75, 2.5))
        image = next((Path(folder) / "large" / "imagesTr").iterdir())
        case = Case("", "mae_pretrain_ct", MAE_B | {"batch_size": 6, "num_workers": 0})
        parser = parts_of(case, folder, "cpu")
        dataset, loader, prepare = (
            parser.get_parsed_content(f"train#{name}") for name in ("dataset", "dataloader", "preprocessing")
        )
        crops = sum(len(batch["image"]) for batch in loader)
        crop = cpu_seconds(lambda: [len(batch["image"]) for batch in loader], epochs) / crops
        opening = cpu_seconds(lambda: [dataset.cache.open(item) for item in dataset.data], epochs) / len(dataset)
        volume = cpu_seconds(lambda: prepare({"image": str(image)}), 3)
        size = image.stat().st_size
        hashing = cpu_seconds(lambda: hashlib.sha256(image.read_bytes()), 3)
    sys.stdout.write(
        f"{1000 * crop:.2f} CPU-ms a crop of {loader.dataset.roi_size}, {1000 * opening:.2f} CPU-ms to open an entry; "
        f"a large CT: {size / 2**20:.0f} MiB, {volume:.2f} CPU-s, hashed at {size / hashing / 1e9:.2f} GB/s\n"
    )


def cpu_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median seconds of this process, after a warm-up; other processes do not count."""
    found = []
    for _ in range(repeats + 1):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return median(found[1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    fire.Fire({"tables": tables, "loading": loading})
