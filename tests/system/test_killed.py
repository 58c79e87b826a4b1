"""Training that is killed at any moment, over and over, ends with the weights of training that was never disturbed."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from custom.study.worker import run_bundle as run_in_process
from custom.study.worker import worker_context
from scripts.tiny import LAYOUTS, ROOT, TINY, config_files, write_data

MOMENTS = ("start", "save", "writing", "start", "save")  # after or during which each of the six trainings is killed
EVERY = {"num_workers": 0, "max_epochs": 4, "warmup_epochs": 1, "save_execute_config": False}
OFTEN, SHORT = {"save_interval": 1, "monitor_interval": 1}, {"val_interval": 1, "validation_cases": 1}
RUNS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "pre-training CT": ("mae_pretrain_ct", ("train",), OFTEN),
    "fine-tuning CT": ("unetr_btcv", ("train",), SHORT),
    "pre-training MR": ("unetr_brats", ("train", "pretrain"), OFTEN),
    "fine-tuning MR": ("unetr_brats", ("train",), SHORT | {"early_stop": True, "patience": 2}),
    "pre-training X-rays": ("vit_cxr14", ("train", "pretrain"), OFTEN | {"num_workers": 1}),
    "fine-tuning X-rays": ("vit_cxr14", ("train",), {"val_interval": 2, "num_workers": 2}),
}  # fmt: skip


@dataclass(frozen=True)
class Training:
    """A training of a bundle at tiny size in a folder of its own."""

    context: ClassVar[ForkServerContext]
    bundle: Path
    files: list[str]
    folder: Path

    def attempt(self, resume: bool, kill: str = "", seconds: float = 0.0) -> bool:
        """Run it; kill it so many seconds after the start or a save, or while it writes -> whether it was killed."""
        log, saved = self.folder / "log.txt", self.saved()
        process = self.context.Process(target=run_in_process, args=(self.files, str(self.bundle), log, resume, None))
        process.start()
        due = time.monotonic() + seconds if kill == "start" else float("inf")
        while process.is_alive() and time.monotonic() < due:
            if kill == "save" and due == float("inf") and self.saved() != saved:
                due = time.monotonic() + seconds
            if kill == "writing" and any(self.folder.glob(".*.last.pt")):
                break
            wait([process.sentinel], timeout=0.001)
        killed = process.is_alive()
        process.kill()
        process.join()
        assert killed or process.exitcode == 0, log.read_text()[-3000:]
        return killed

    def saved(self) -> int:
        """Changes whenever a checkpoint is saved."""
        file = self.folder / "last.pt"
        return file.stat().st_mtime_ns if file.is_file() else 0

    def results(self) -> dict[str, Any]:
        """Everything that the run keeps: weights, optimiser, schedule, best score, random numbers."""
        files = sorted(path for path in self.folder.glob("*.pt") if "previous" not in path.name)
        return {path.name: torch.load(path, weights_only=True) for path in files}


@pytest.fixture(scope="module", autouse=True)
def context() -> Iterator[ForkServerContext]:
    """Where the processes come from, with one thread each, and then everything as it was."""
    before = os.environ.copy()
    Training.context = worker_context(1)
    yield Training.context
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {layout: write_data(layout, tmp_path_factory.mktemp(layout)) for layout in set(LAYOUTS.values())}


def training(name: str, data: dict[str, Path], folder: Path, cache: Path) -> Training:
    """The training `name` of RUNS, ready to begin."""
    bundle, stems, options = RUNS[name]
    folder.mkdir()
    own = {"dataset_dir": str(data[LAYOUTS[bundle]]), "output_dir": str(folder), "ckpt_dir": str(folder)}
    own |= {"cache_dir": str(cache)} | TINY[bundle] | EVERY | options
    (folder / "own.json").write_text(json.dumps(own))
    root = ROOT / "bundles" / bundle
    return Training(root, [*map(str, config_files(root, stems)), str(folder / "own.json")], folder)


def same(one: Any, other: Any) -> bool:
    """Equal bit for bit, NaN equal to NaN."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return one == other or (one != one and other != other)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_it_ends_with_the_weights_of_a_run_that_was_never_killed(
    name: str, data: dict[str, Path], tmp_path: Path
) -> None:
    unbroken, rng = training(name, data, tmp_path / "unbroken", tmp_path / "cache"), random.Random(name)
    unbroken.attempt(resume=False)
    start = time.monotonic()
    again = training(name, data, tmp_path / "again", tmp_path / "cache")
    again.attempt(resume=False)
    usual = time.monotonic() - start  # with a cache that is filled
    assert same(again.results(), unbroken.results())
    broken = training(name, data, tmp_path / "broken", tmp_path / "cache")
    killed = [broken.attempt(True, kill, rng.uniform(0, usual / (1 if kill == "start" else 8))) for kill in MOMENTS]
    broken.attempt(resume=True)
    log = (broken.folder / "log.txt").read_text()
    assert any(killed) and "resumed after epoch" in log  # at least one was killed, and one went on from a checkpoint
    assert same(broken.results(), unbroken.results())
    assert not list(broken.folder.glob(".*.pt"))


def command(training: Training, **options: Any) -> list[str]:
    """The training as a user begins it."""
    words = [f"--{name}={value}" for name, value in options.items()]
    files = ["--config_file", str(training.files), "--bundle_root", str(training.bundle)]
    return [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *files, *words]


@pytest.fixture
def half_done(data: dict[str, Path], tmp_path: Path) -> Iterator[tuple[Training, bytes]]:
    """A training that was stopped after two epochs of four, and its last checkpoint."""
    whole = training("pre-training CT", data, tmp_path / "run", tmp_path / "cache")
    own = json.loads((whole.folder / "own.json").read_text())
    (whole.folder / "own.json").write_text(
        json.dumps(own | {"train#trainer#max_epochs": 2, "lr_scheduler#total_steps": 24})
    )
    whole.attempt(resume=False)
    (whole.folder / "own.json").write_text(json.dumps(own))
    yield whole, (whole.folder / "last.pt").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["disk full", "read-only", "vanished"])
def test_a_fault_of_the_machine_is_one_sentence_and_leaves_the_last_checkpoint(
    fault: str, half_done: tuple[Training, bytes], tmp_path: Path
) -> None:
    whole, before = half_done
    options: dict[str, Any] = {"resume": True}
    sentence = {"disk full": "cannot write", "read-only": "cannot be used", "vanished": "is not a folder"}[fault]
    if fault == "vanished":
        options |= {"dataset_dir": tmp_path / "vanished"}
    if fault == "read-only":
        options |= {"output_dir": "/sys/out", "resume": False}

    def limit() -> None:
        if fault == "disk full":  # no file may become larger than half a checkpoint
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, len(before) // 2))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command(whole, **options), env=environment, preexec_fn=limit, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1 and sentence in done.stderr.strip().splitlines()[-1]
    assert done.stderr.strip().splitlines()[-1].startswith("ERROR: ") and "Traceback" not in done.stderr
    assert (whole.folder / "last.pt").read_bytes() == before
    shutil.rmtree(tmp_path / "run")
