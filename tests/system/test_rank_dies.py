"""A process of several that dies ends the job; torchrun's elastic restart goes on from the last checkpoint."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.tiny import LAYOUTS, ROOT, TINY, config_files, write_data
from tests.system.test_killed import same

EVERY = {"num_workers": 0, "max_epochs": 3, "warmup_epochs": 1, "batch_size": 1, "save_execute_config": False}
RUNS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "pre-training": ("mae_pretrain_ct", ("train",), {"save_interval": 1, "monitor_interval": 1}),
    "fine-tuning": ("unetr_btcv", ("train",), {"validation_cases": 2, "val_interval": 1}),
}
STEPS = {"pre-training": 3, "fine-tuning": 2}  # an epoch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(LAYOUTS["unetr_btcv"], tmp_path_factory.mktemp("btcv"))


def job(name: str, folder: Path, data: Path, kill_at: int = 0, **changes: Any) -> tuple[list[str], str]:
    """Config files and bundle of a training in `folder` whose rank 1 dies once, at a step; 0 for never."""
    bundle, stems, options = RUNS[name]
    folder.mkdir(parents=True)
    own = {"dataset_dir": str(data), "output_dir": str(folder), "ckpt_dir": str(folder), "resume": True}
    own |= {"cache_dir": str(data / "cache")} | TINY[bundle] | EVERY | options | changes
    own |= {"kill": {"_target_": "tests.system.rank_worker.Kill", "folder": str(folder), "iteration": kill_at}}
    own |= {"train#trainer#train_handlers": "$[@kill, *@train#handlers]"}
    (folder / "own.json").write_text(json.dumps(own))
    root = ROOT / "bundles" / bundle
    return [*map(str, config_files(root, [*stems, "multi_gpu_train"])), str(folder / "own.json")], str(root)


def command(*arguments: Any, **changes: Any) -> list[str]:
    """The `job` of these arguments as a user begins it, after `torchrun` and its options."""
    files, bundle = job(*arguments, **changes)
    return ["-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", bundle]


def torchrun(*words: str) -> subprocess.Popen[str]:
    own_store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else a restart finds addresses of the dead, see the docs
    environment = os.environ | own_store | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", *words]
    return subprocess.Popen(
        start, cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def finish(*processes: subprocess.Popen[str]) -> list[str]:
    """What they say in the end; all must have succeeded."""
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert not any(process.returncode for process in processes), said[0][-3000:]
    return said


def results(folder: Path) -> dict[str, Any]:
    return {
        path.name: torch.load(path, weights_only=True) for path in folder.glob("*.pt") if "previous" not in path.name
    }


ONE_MACHINE = ("--standalone", "--nproc_per_node", "2")


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of RUNS, which two processes ran to its end."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "jobs.json").write_text(json.dumps([job(name, folder / name, data) for name in RUNS]))
    finish(torchrun(*ONE_MACHINE, "-m", "tests.system.rank_worker", str(folder / "jobs.json")))
    return folder


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job_and_is_named(data: Path, tmp_path: Path) -> None:
    process = torchrun(*ONE_MACHINE, *command("pre-training", tmp_path / "run", data, kill_at=5))
    said, ended = process.communicate(timeout=300)[1], time.time()
    seconds = ended - float((tmp_path / "run" / "killed").read_text())
    assert process.returncode == 1 and seconds < 60
    assert "SIGKILL" in said and "rank      : 1" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_an_elastic_restart_ends_with_the_weights_of_an_unbroken_run(
    name: str, data: Path, unbroken: Path, tmp_path: Path
) -> None:
    step = 2 * STEPS[name] + 2  # in the third epoch, after a step that rank 0 took once it had saved the second
    broken = command(name, tmp_path / "broken", data, kill_at=step)
    if name == "pre-training":
        said = finish(torchrun(*ONE_MACHINE, "--max-restarts", "1", *broken))
    else:  # two machines with a process each, as far as one machine can stand for two
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"127.0.0.1:{free.getsockname()[1]}"
        several = ["--nnodes", "2", "--nproc_per_node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", place]
        several += ["--rdzv-id", "job", "--max-restarts", "1"]
        said = finish(*[torchrun(*several, "--node_rank", rank, *broken) for rank in "01"])
    assert (tmp_path / "broken" / "killed").exists() and "resumed after epoch 2" in "".join(said)
    assert same(results(tmp_path / "broken"), results(unbroken / name))


@pytest.mark.slow
def test_a_fault_of_the_user_is_said_by_every_process(data: Path, tmp_path: Path) -> None:
    process = torchrun(*ONE_MACHINE, *command("fine-tuning", tmp_path / "run", data, validation_cases=1))
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 1 and "ERROR: 1 cases are too few for 2 processes; start fewer" in said
