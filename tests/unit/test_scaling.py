"""The arithmetic behind docs/scaling.md, and that the page shows what the command prints."""

from dataclasses import replace

import pytest

from scripts.bench.plan import Assumptions, all_reduce_seconds, crop_bytes, plan, read_rate
from scripts.bench.scaling import tables
from scripts.bench.work import Work
from scripts.tiny import ROOT

KNOWN = Assumptions(peak=100.0, mfu=0.5, nvlink=8.0, infiniband=2.0, link_efficiency=1.0, launch_seconds=1e-9)
WORK = Work(flops=10, launches=1, saved=1, parameters=1)


def test_gradients_of_one_gpu_travel_nowhere() -> None:
    assert all_reduce_seconds(16.0, 1, KNOWN) == 0


def test_gradients_travel_twice_within_a_machine_and_an_eighth_of_them_between_machines() -> None:
    inside = all_reduce_seconds(16.0, 8, KNOWN)
    assert inside == pytest.approx(2 * 7 / 8 * 16 / 8)
    assert all_reduce_seconds(16.0, 16, KNOWN) == pytest.approx(inside + 2 * 1 / 2 * (16 / 8) / 2)


def test_a_crop_costs_whole_pages() -> None:
    needed, read = crop_bytes((64, 64, 64), (2, 2, 2))
    assert needed == 2 * 8
    assert read == 2 * 2 * 4096  # two slabs, each within two pages


@pytest.mark.parametrize(("volumes", "place"), [(10, "memory"), (1_000_000, "disk"), (10_000_000, "storage")])
def test_a_cache_lies_in_the_fastest_place_that_holds_it(volumes: int, place: str) -> None:
    assert read_rate(8, replace(Assumptions(), volumes=volumes))[0] == place


def test_more_machines_bring_the_cache_into_memory() -> None:
    assert [read_rate(gpus, Assumptions())[0] for gpus in (8, 64)] == ["disk", "memory"]


def test_the_slowest_resource_sets_the_pace() -> None:
    known = replace(KNOWN, crops_per_gpu=4, crop_cpu_seconds=1.0, cores_per_gpu=3, volumes=1)
    slow_cpu = plan(WORK, (96, 96, 96), 2, known)
    assert (slow_cpu.bottleneck, slow_cpu.rate) == ("CPU", 2 * 3)
    fast_cpu = plan(WORK, (96, 96, 96), 2, replace(known, crop_cpu_seconds=1e-9))
    assert fast_cpu.rate == pytest.approx(2 * 5)  # 100 FLOP/s at half the peak, 10 for a crop
    assert fast_cpu.bottleneck == "compute"


def test_the_largest_batch_is_shared_among_gpus_and_then_the_network_shows() -> None:
    known = replace(KNOWN, largest_batch=64, crops_per_gpu=32, crop_cpu_seconds=1e-9, volumes=1)
    work = replace(WORK, parameters=100)
    few, many = plan(work, (8, 8, 8), 2, known), plan(work, (8, 8, 8), 64, known)
    assert (few.batch, many.batch) == (32, 1)
    assert many.bottleneck == "network"


@pytest.mark.slow
def test_the_page_shows_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    tables()
    printed = capsys.readouterr().out.strip().split("\n\n")
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert len(printed) == 4
    assert [table for table in printed if table not in page] == []
