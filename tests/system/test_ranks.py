"""Two processes compute what one computes with the same global batch, count no case twice, and only rank 0 writes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from scripts.tiny import LAYOUTS, ROOT, TINY, config_files, write_data, write_weights

CT = {"training": [1, 2, 3, 4, 5, 6], "validation": [7, 8, 9], "test": [10, 21, 22]}
MR = {"training": [1, 2, 3, 4], "validation": [5, 6, 7], "test": [8, 9, 10]}  # odd where nothing is trained
SPLITS = {
    "btcv": {section: [f"img{number:04}" for number in numbers] for section, numbers in CT.items()},
    "msd": {section: [f"BRATS_{number:03}" for number in numbers] for section, numbers in MR.items()},
}
EVERY = {"num_workers": 0, "max_epochs": 2, "warmup_epochs": 1, "save_execute_config": False, "amp": False}
MAE = {"network_def#_target_": "tests.system.rank_worker.MaskByCrop", "monitor_interval": 1, "save_interval": 1}
FINE = {"drop_path_rate": 0.0, "val_interval": 1}
DOUBLE = FINE | {"network_def#_target_": "tests.system.rank_worker.DoubleUNETR"}
STILL = {"learning_rate": 0.0, "max_epochs": 1, "warmup_epochs": 0, "val_interval": 1}  # the weights stay as they are


class Job(NamedTuple):
    """A command of a bundle; `batch` is the global one, 0 for the configs' own."""

    bundle: str
    stems: tuple[str, ...]
    options: dict[str, Any]
    batch: int = 0


TRAININGS = {
    "pre-training CT": Job("mae_pretrain_ct", ("train",), MAE, 2),
    "fine-tuning CT": Job("unetr_btcv", ("train",), FINE, 2),
    "fine-tuning CT in double precision": Job("unetr_btcv", ("train",), DOUBLE, 2),
    "pre-training MR": Job("unetr_brats", ("train", "pretrain"), MAE, 2),
    "fine-tuning MR": Job("unetr_brats", ("train",), FINE, 2),
    "fine-tuning MR in double precision": Job("unetr_brats", ("train",), DOUBLE, 2),
    "pre-training X-rays": Job("vit_cxr14", ("train", "pretrain"), MAE, 8),
    "fine-tuning X-rays": Job("vit_cxr14", ("train",), FINE, 8),
}
GROWING = ("fine-tuning CT", "fine-tuning MR")  # UNETR's rounding in single precision, from step to step
VALIDATIONS = {name: Job(name, ("train",), STILL) for name in ("unetr_btcv", "unetr_brats", "vit_cxr14")}
EVALUATIONS = {f"{name} evaluated": Job(name, ("train", "evaluate"), {}) for name in VALIDATIONS}
JOBS = TRAININGS | VALIDATIONS | EVALUATIONS


class Run(NamedTuple):
    """What `processes` processes made of all jobs."""

    folder: Path
    processes: int

    def steps(self, name: str) -> list[list[dict[str, Any]]]:
        """Loss and gradient of every step, on each rank."""
        return [torch.load(self.folder / name / f"steps.{rank}.pt") for rank in range(self.processes)]

    def table(self, name: str, file: str) -> list[list[str]]:
        with (self.folder / name / file).open() as lines:
            return list(csv.reader(lines))

    def writes(self, rank: int) -> set[Path]:
        """What a rank opened for writing, linked or renamed."""
        return {Path(line) for line in (self.folder / f"writes.{rank}").read_text().splitlines()}


def own_config(name: str, job: Job, processes: int, data: dict[str, Path], folder: Path) -> Path:
    """The options of a job as the last of its config files."""
    here = folder / name
    here.mkdir(parents=True)
    own = {"dataset_dir": str(data[LAYOUTS[job.bundle]]), "output_dir": str(here), "ckpt_dir": str(here)}
    own |= {"cache_dir": str(folder / "cache")} | TINY[job.bundle] | EVERY | job.options
    if LAYOUTS[job.bundle] in SPLITS:
        own |= {"split": "split.json"}
    if job.batch:
        recorder = {"_target_": "tests.system.rank_worker.Recorder", "folder": str(here)}
        own |= {"recorder": recorder, "batch_size": job.batch // processes}
        own |= {"train#trainer#train_handlers": "$[@recorder, *@train#handlers]"}
    elif "evaluate" in job.stems:
        own |= {"checkpoint": str(write_weights(job.bundle, job.stems, here / "weights.pt"))}
    (here / "own.json").write_text(json.dumps(own))
    return here / "own.json"


def run_all(processes: int, data: dict[str, Path], folder: Path) -> Run:
    """All jobs, in as many processes; the configs for several go before those of the test."""
    todo = []
    for name, job in JOBS.items():
        several = ["multi_gpu_evaluate" if "evaluate" in job.stems else "multi_gpu_train"] * (processes > 1)
        files = config_files(ROOT / "bundles" / job.bundle, [*job.stems, *several])
        torch.manual_seed(0)
        own = own_config(name, job, processes, data, folder)
        todo.append([[*map(str, files), str(own)], str(ROOT / "bundles" / job.bundle)])
    (folder / "jobs.json").write_text(json.dumps(todo))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *launcher * (processes > 1), "-m", "tests.system.rank_worker", folder / "jobs.json"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    return Run(folder, processes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {layout: write_data(layout, tmp_path_factory.mktemp(layout)) for layout in set(LAYOUTS.values())}
    for layout, split in SPLITS.items():
        (folders[layout] / "split.json").write_text(json.dumps(split))
    return folders


@pytest.fixture(scope="module")
def two(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_all(2, data, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def one(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_all(1, data, tmp_path_factory.mktemp("one"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_loss_and_gradient_are_those_of_one_process_with_the_same_global_batch(name: str, one: Run, two: Run) -> None:
    [alone], (first, second) = one.steps(name), two.steps(name)
    assert len(alone) == len(first) == len(second) >= 4
    for number, (step, here, there) in enumerate(zip(alone, first, second, strict=True)):
        grown = name in GROWING and number > 0
        assert (here["loss"] + there["loss"]) / 2 == pytest.approx(step["loss"], abs=1e-4 if grown else 1e-5)
        assert torch.equal(here["gradient"], there["gradient"])
        error = (here["gradient"] - step["gradient"]).norm() / step["gradient"].norm()
        assert error < (1e-2 if grown else 1e-5)
        assert not here["without"] + there["without"]  # every parameter has a gradient


@pytest.mark.slow
@pytest.mark.parametrize("name", VALIDATIONS)
def test_validation_while_training_has_the_mean_of_one_process(name: str, one: Run, two: Run) -> None:
    """Of an odd number of cases, which two processes cannot share equally, by weights that do not change."""
    alone, together = (torch.load(run.folder / name / "last.pt")["best"] for run in (one, two))
    assert together == pytest.approx(alone, abs=1e-6) and alone["metric"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation_has_each_case_once_and_the_means_of_one_process(name: str, one: Run, two: Run) -> None:
    header, *rows = two.table(name, file := "per_image.csv" if "cxr" in name else "per_case.csv")
    cases = [row[0] if header[1] == "patient" else (row[0], row[1]) for row in rows]  # else a row an organ
    assert len(set(cases)) == len(cases) and len({row[0] for row in rows}) % 2 == 1
    for table in (file, "summary.csv"):
        assert numbers(two.table(name, table)) == pytest.approx(numbers(one.table(name, table)), rel=1e-4, nan_ok=True)


def numbers(table: list[list[str]]) -> dict[str, float]:
    """The numbers of a table by line and column; an empty cell is NaN."""
    header, *rows = table
    cells = {f"{row[0]} {row[1]} {name}": cell for row in rows for name, cell in zip(header, row, strict=True)}
    return {place: float(cell or "nan") for place, cell in cells.items() if not cell or cell[0] in "-0123456789"}


@pytest.mark.slow
def test_only_rank_0_writes_and_the_others_fill_the_cache_alone(two: Run) -> None:
    cache = two.folder / "cache"
    written = ({path for path in two.writes(rank) if path.is_relative_to(two.folder)} for rank in range(2))
    first, second = ({path for path in paths if not path.match("steps.*.pt")} for paths in written)  # the Recorder's
    results = {path.name for path in first if not path.is_relative_to(cache)}
    assert {"model.pt", "last.pt", "pretraining.csv", "probe.csv", "summary.csv", "validation.png"} <= results
    assert any("tfevents" in name for name in results)
    assert second and all(path.is_relative_to(cache) for path in second)
    assert not [path for pattern in ("*.tmp", ".*") for path in cache.glob(pattern)]  # whole entries, each once


def test_no_config_asks_for_unused_parameters() -> None:
    configs = [path.read_text() for path in ROOT.glob("bundles/*/configs/*.json")]
    assert len(configs) > 30 and not any("find_unused_parameters" in text for text in configs)
