"""Do runs several at a time, each once: what finished is skipped, what was cut off goes on where it was."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import torch

from ..errors import InputError
from ..files import replacing
from .recipe import config_files
from .run import Run
from .worker import run_bundle, worker_context

Say = Callable[[str], None]


class Executor:
    """Runs below a folder, `workers` at a time.

    Args:
        folder: of the comparison; a run has `runs/<name>/` in it, with run.json, log.txt and, at its end, done.json.
        workers: runs at a time; 0 for one a GPU, or one a CPU core without any.
        total: work of all runs to come, in FLOPs, of which the time left is told.
        say: where progress goes.
    """

    def __init__(self, folder: Path, workers: int, total: float, say: Say) -> None:
        cores = os.cpu_count() or 1
        self.folder, self.say, self.total = folder, say, total
        self.workers = workers or max(1, torch.cuda.device_count() or cores)
        self.context = worker_context(max(1, cores // self.workers))
        self.work_done, self.seconds = 0.0, 0.0
        self.gpus: SimpleQueue[str | None] = SimpleQueue()
        for place in range(self.workers):
            self.gpus.put(str(place % torch.cuda.device_count()) if torch.cuda.device_count() > 1 else None)

    def execute(self, runs: Sequence[Run]) -> None:
        """Return when all are done; InputError with the last words of one that failed, after those under way ended."""
        waiting = [run for run in dict.fromkeys(runs) if not self.is_done(run)]
        self.total -= sum(run.work for run in runs if run not in waiting)
        pool = ThreadPoolExecutor(self.workers)
        try:
            going: dict[Future, Run] = {}
            while waiting or going:
                for run in [run for run in waiting if all(self.done_file(name).is_file() for name in run.needs)]:
                    waiting.remove(run)
                    going[pool.submit(self._run, run)] = run
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    self._report(going.pop(future), future.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def is_done(self, run: Run) -> bool:
        """Whether the run has ended; InputError if one of that name was another."""
        file = self.done_file(run.name).with_name("run.json")
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) != json.loads(as_json(run)):
            raise InputError(
                f"{file.parent} comes from a comparison with other settings; choose another output_dir, or remove it"
            )
        return self.done_file(run.name).is_file()

    def done_file(self, name: str) -> Path:
        """There when the run of that name has ended."""
        return self.folder / "runs" / name / "done.json"

    def _run(self, run: Run) -> float:
        """In a process of its own -> seconds."""
        folder = self.done_file(run.name).parent
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "run.json") as beside:
            beside.write_text(as_json(run), encoding="utf-8")
        resume = (folder / "last.pt").is_file()
        files, start = [*config_files(run.bundle, run.configs), str(folder / "run.json")], time.monotonic()
        gpu = self.gpus.get()
        process = self.context.Process(
            target=run_bundle, args=(files, str(run.bundle), folder / "log.txt", resume, gpu)
        )
        process.start()
        process.join()
        self.gpus.put(gpu)
        if process.exitcode:
            last = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise InputError(f"{run.name} failed: {' '.join(last)} (all of it in {folder / 'log.txt'})")
        seconds = time.monotonic() - start
        with replacing(folder / "done.json") as beside:
            beside.write_text(json.dumps({"seconds": seconds, "steps": run.steps, "resumed": resume}))
        return seconds

    def _report(self, run: Run, seconds: float) -> None:
        self.work_done, self.seconds = self.work_done + run.work, self.seconds + seconds
        left = ""
        if self.work_done and self.total > self.work_done:
            minutes = (self.total - self.work_done) / self.work_done * self.seconds / self.workers / 60
            left = f"; about {minutes:.0f} min left"
        self.say(f"{run.name}: {seconds:.0f} s{left}")


def as_json(run: Run) -> str:
    """The overrides, as the config file they become."""
    return json.dumps(run.overrides, indent=1, default=list)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others out of a comparison's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"another comparison runs in {folder}; wait for it or end it") from error
        yield
