"""What limits a training on many GPUs: arithmetic, data, gradients or launches, from named assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, inf, prod

from .work import Work

PAGE = 4096  # bytes that a memory-mapped file is read in at least


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
    crop_cpu_seconds: float = 3.1e-3
    volume_cpu_seconds: float = 0.54
    volume_shape: tuple[int, ...] = (204, 154, 187)
    file_bytes: float = 41 * 2**20
    volumes: int = 1_000_000
    epochs: int = 100
    crops_per_visit: int = 4
    largest_batch: int = 4096
    crops_per_gpu: int = 96
    hash_rate: float = 1.5e9
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
    """What each resource allows.

    Gradients, in single precision, travel during the backward, two thirds of the work. Loading costs a core what it
    does for 96^3, voxel by voxel.
    """
    batch = min(known.crops_per_gpu, known.largest_batch // gpus)
    arithmetic = batch * work.flops / (known.peak * known.mfu)
    exposed = max(0.0, all_reduce_seconds(4 * work.parameters, gpus, known) - arithmetic * 2 / 3)
    place, rate = read_rate(gpus, known)
    ceilings = {
        "compute": batch / arithmetic,
        "launches": batch / (work.launches * known.launch_seconds),
        "network": batch / (arithmetic + exposed) if exposed else inf,
        "CPU": known.cores_per_gpu / (known.crop_cpu_seconds * prod(roi) / 96**3),
        place: rate / known.gpus_per_node / crop_bytes(known.volume_shape, roi)[1],
    }
    return Plan(gpus, batch, ceilings)
