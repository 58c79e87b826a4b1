"""Do runs several at a time, each once: what finished is skipped, what was cut off goes on where it was."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from queue import SimpleQueue
from threading import Lock

import torch

from ..errors import InputError
from ..files import read_json, replacing
from ..provenance import versions
from .recipe import config_files
from .run import DONE, FAILED, Run
from .worker import DIVERGED, run_bundle, worker_context

MOST_WORKERS = 8
THREADS = os.environ.get("OMP_NUM_THREADS", "")  # of a run, as whoever began this wants it; `worker_context` changes it
SPARE = "last.previous.pt"  # what a run that ended needs no more
Say = Callable[[str], None]


class Executor:
    """Runs below a folder, `workers` at a time.

    Args:
        folder: of the comparison; a run has `runs/<name>/` in it, with run.json, needs.json (digests of what it was
            made from), log.txt and, at its end, done.json.
        workers: runs at a time; 0 for one a GPU, or without any one a CPU core, at most 8.
        total: work of all runs to come, in FLOPs, of which the time left is told.
        say: where progress goes.
    """

    def __init__(self, folder: Path, workers: int, total: float, say: Say) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        gpus = visible_gpus()
        if not isinstance(workers, int) or workers < 0:
            raise InputError(f"workers is {workers!r}; set it to a whole number, 0 or more")
        self.folder, self.say, self.total = folder, say, total
        self.workers = workers or len(gpus) or min(cores, MOST_WORKERS)
        self.context = worker_context(int(THREADS) if THREADS.isdigit() else max(1, cores // self.workers))
        self.work_done, self.seconds, self.lock = 0.0, 0.0, Lock()
        self.versions = versions()
        self.ended: set[str] = set()  # names of runs that `total` has in `work_done`, or no more
        self.gpus: SimpleQueue[str | None] = SimpleQueue()
        for place in range(self.workers):
            self.gpus.put(gpus[place % len(gpus)] if len(gpus) > 1 else None)

    def execute(self, stage: str, runs: Sequence[Run], may_fail: Sequence[Run] = ()) -> None:
        """Return when all are done; InputError with the last words of one that failed, after those under way ended.

        One of `may_fail` that diverges, or needs one that did, counts as done, and `failed` tells which those are.
        `stage` tells the person watching what they are for.
        """
        waiting = self._waiting(stage, list(dict.fromkeys(runs)))
        pool = ThreadPoolExecutor(self.workers)
        try:
            going: dict[Future, Run] = {}
            while waiting or going:
                waiting = [run for run in waiting if not any(map(self.failed, run.needs))]
                for run in [run for run in waiting if all(self.done_file(name).is_file() for name in run.needs)]:
                    waiting.remove(run)
                    going[pool.submit(self._run, run, run in may_fail)] = run
                if waiting and not going:
                    raise ValueError(f"{waiting[0].name} needs {waiting[0].needs}, which nothing makes")
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    self._report(going.pop(future), future.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _waiting(self, stage: str, runs: Sequence[Run]) -> list[Run]:
        """Those that have not ended, and one line about them."""
        for run in runs:
            self._check(run)
        waiting = [run for run in runs if not self.is_done(run) and not self.failed(run.name)]
        before = {run.name: run.work for run in runs if run not in waiting and run.name not in self.ended}
        self.total -= sum(before.values())
        self.ended |= set(before)
        if waiting:
            self.say(f"{stage}: {len(waiting)} of {len(runs)} to do")
        return waiting

    def is_done(self, run: Run) -> bool:
        """Whether the run has ended."""
        return self.done_file(run.name).is_file()

    def _check(self, run: Run) -> None:
        """Remove what was made from weights that are there no more; InputError if the run of that name was another."""
        folder = self.done_file(run.name).parent
        file, needs = folder / "run.json", folder / "needs.json"
        if file.is_file() and read_json(file) != json.loads(as_json(run)):
            raise InputError(
                f"{folder} comes from a comparison with other settings or in another place; choose another output_dir, "
                "or put it back where it was"
            )
        if needs.is_file() and read_json(needs) != self.digests(run):
            self.say(f"{run.name}: to be run again, as {', '.join(run.needs)} was")
            shutil.rmtree(folder)

    def digests(self, run: Run) -> dict[str, str]:
        """What tells the runs that this one needs from others of their names; "" for one that has not ended."""
        files = {name: self.done_file(name) for name in run.needs}
        return {
            name: hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
            for name, file in files.items()
        }

    def done_file(self, name: str) -> Path:
        """There when the run of that name has ended."""
        return self.folder / "runs" / name / DONE

    def failed(self, name: str) -> bool:
        """Whether the run of that name was allowed to diverge, and did."""
        return self.done_file(name).with_name(FAILED).is_file()

    def _run(self, run: Run, may_fail: bool) -> float:
        """In a process of its own -> seconds."""
        folder = self.done_file(run.name).parent
        for name, content in (("needs.json", json.dumps(self.digests(run))), ("run.json", as_json(run))):
            with replacing(folder / name) as beside:
                beside.write_text(content, encoding="utf-8")
        resume, start = any(folder.glob("last*.pt")), time.monotonic()
        status = self._process(run, folder, resume)
        if status == DIVERGED and not may_fail:
            raise InputError(
                f"{run.name} diverged; leave its arm out, or lower its learning_rate and choose another output_dir"
            )
        if status not in (0, DIVERGED):
            words = f"{last_words(folder)} (exit status {status}, all of it in {folder / 'log.txt'})"
            raise InputError(f"{run.name} failed: {words}")
        ended = {"seconds": time.monotonic() - start, "resumed": resume, "versions": self.versions}
        ended |= {"error": last_words(folder), "exit status": status} if status else {}
        with replacing(folder / (FAILED if status else DONE)) as beside:
            beside.write_text(json.dumps(ended), encoding="utf-8")
        for spare in folder.glob(SPARE):
            spare.unlink()
        return ended["seconds"]

    def _process(self, run: Run, folder: Path, resume: bool) -> int:
        """Its exit status, once a GPU was free and it has ended."""
        files, gpu = [*config_files(run.bundle, run.configs), str(folder / "run.json")], self.gpus.get()
        process = self.context.Process(
            target=run_bundle, args=(files, str(run.bundle), folder / "log.txt", resume, gpu)
        )
        with self.lock:  # start and join both ask how other processes ended, and the answer can be read only once
            process.start()
        wait_for([process.sentinel])
        with self.lock:
            process.join()
        self.gpus.put(gpu)
        return process.exitcode

    def _report(self, run: Run, seconds: float) -> None:
        self.work_done, self.seconds = self.work_done + run.work, self.seconds + seconds
        self.ended.add(run.name)
        left = ""
        if self.work_done and self.total > self.work_done:
            minutes = (self.total - self.work_done) / self.work_done * self.seconds / self.workers / 60
            left = f"; about {minutes:.0f} min left"
        self.say(f"{run.name}: {seconds:.0f} s{left}")


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    count = torch.cuda.device_count()
    return named.split(",")[:count] if named else [str(place) for place in range(count)]


def last_words(folder: Path) -> str:
    """The last line of a run's log."""
    log = folder / "log.txt"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "it was ended before it could say why"


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
            if error.errno in (errno.EACCES, errno.EAGAIN):  # other errors: a file system that has no locks
                raise InputError(f"another comparison runs in {folder}; wait for it or end it") from error
        yield
