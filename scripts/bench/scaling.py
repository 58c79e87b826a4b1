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
from dataclasses import fields, replace
from math import inf, prod, sqrt
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from custom.data.phantoms.ct import write_btcv
from custom.errors import InputError, did_you_mean, explain_errors
from custom.networks import MAE, UNETR
from scripts.command_line import run_command_line

from .gpu import MAE_B, Case, training_config
from .plan import Assumptions, crop_bytes, plan
from .work import Work, training_work

GPUS = (8, 64, 512)
BTCV = "MAE 96^3, 75 % masked"


Works = dict[str, tuple[Work, tuple[int, ...]]]  # of one crop, and its size


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
    known = assume(assumptions)
    works = {name: (training_work(network), roi) for name, (network, roi) in networks().items()}
    parts = [make(works, known) for make in (work_table, plan_table, btcv_table, run_table)]
    sys.stdout.write("\n\n".join(parts) + "\n")


def assume(given: dict[str, float]) -> Assumptions:
    """The assumptions with those given; InputError for one that there is not, or that is no number."""
    names = [one.name for one in fields(Assumptions)]
    for name, value in given.items():
        if name not in names:
            raise InputError(f"--{name} is no assumption; {did_you_mean(name, names, ', '.join(names), prefix='--')}")
        if isinstance(value, str | bool):
            raise InputError(f"--{name} is {value!r}; give a number, or a list of them, as the default is")
    return Assumptions(**given)


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
        parser = training_config(case, folder, "cpu")
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
    explain_errors()
    torch.set_num_threads(1)
    run_command_line({"tables": tables, "loading": loading})
