"""Run, check and export a packed bundle in a process of its own, where this project cannot be imported."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from .tiny import Combination, combinations, config_files, layout_of, options_of, write_data, write_weights

WORKER = Path(__file__).with_name("release_worker.py")
Job = dict[str, Any]


def object_faults(bundle: Path, name: str, data: Path | None = None) -> list[str]:
    """What is wrong with MONAI's properties of every combination, and with the network's TorchScript and ONNX.

    Args:
        bundle: the packed bundle; the work is done from its folder.
        name: its name in this project, whatever the folder is called.
        data: images in the bundle's layout, to be read only; without it `phantoms`.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jobs = combination_jobs("properties", bundle, name, data, folder)
        return work([*jobs, {"task": "export", "title": "models/model.pt", "output": scratch}], folder, cwd=bundle)


def run_faults(bundle: Path, name: str, data: Path | None = None) -> list[str]:
    """What goes wrong when every combination runs, tiny and on generated images, from /. Arguments as above."""
    with TemporaryDirectory() as scratch:
        return work(combination_jobs("run", bundle, name, data, Path(scratch)), Path(scratch), cwd="/")


def combination_jobs(task: str, bundle: Path, name: str, data: Path | None, folder: Path) -> list[Job]:
    """`task` for each combination, as the worker takes it; what it needs is written to `folder`."""
    found = combinations(bundle)
    data = data or phantoms(layout_of(name))
    return [{"task": task} | combination_job(bundle, name, one, data, folder / str(one)) for one in found]


@cache
def phantoms(layout: str) -> Path:
    """Generated images in a layout of `tiny`, made once for all bundles and checks; removed when Python ends."""
    folder = Path(mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return write_data(layout, folder)


def combination_job(bundle: Path, name: str, combination: Combination, data: Path, folder: Path) -> Job:
    """One combination, with random weights of its network."""
    weights = write_weights(name, combination.files, folder / "weights.pt")
    options = options_of(name, combination, data, weights, folder) | {"bundle_root": str(bundle)}
    files = [str(file) for file in config_files(bundle, combination.files)]
    job = {"title": str(combination), "files": files, "kind": combination.kind, "options": options}
    return job | ({"environment": single_process()} if "multi_gpu" in str(combination) else {})


def single_process() -> dict[str, str]:
    """The variables that torchrun sets, for one process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}


def work(jobs: list[Job], folder: Path, cwd: str | Path) -> list[str]:
    """Let the worker do `jobs` in `cwd`; the sentences it returns, or one that says how it ended."""
    todo, result = folder / "jobs.json", folder / "faults.json"
    todo.write_text(json.dumps(jobs))
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment = {"OMP_NUM_THREADS": "1"} | kept | {"PYTHONDONTWRITEBYTECODE": "1"}  # more threads slow tiny work down
    command = [sys.executable, "-P", "-W", "ignore", str(WORKER), str(todo), str(result)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if not result.is_file():
        last = next(iter(done.stderr.strip().splitlines()[-1:]), "no message")
        return [f"the process that checks the configs ended with status {done.returncode} ({last})"]
    return json.loads(result.read_text())
