"""One run of a bundle as a process of its own, made from one in which everything is imported already."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from multiprocessing import get_all_start_methods, get_context, parent_process, set_start_method
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Thread

import torch
from monai.bundle import run

from ..errors import DivergedError, chain_of, sentence_of

DIVERGED = 3  # exit status


def worker_context(threads: int) -> ForkServerContext:
    """Where processes come from; they begin with `threads` threads."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def run_bundle(files: Sequence[str], bundle: str, log: Path, resume: bool, gpu: str | None) -> None:
    """What `python -m monai.bundle run` does, its output into `log`: its exit status is 1, or DIVERGED, if it fails."""
    end_with_parent()
    set_start_method(get_all_start_methods()[0], force=True)  # of its loaders: they begin, and end, as in a command
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        run(config_file=list(files), bundle_root=bundle, **({"resume": True} if resume else {}))
    except Exception as error:
        traceback.print_exc()
        sys.stderr.write(f"\nERROR: {sentence_of(error) or repr(error)}\n")
        sys.exit(DIVERGED if any(isinstance(one, DivergedError) for one in chain_of(error)) else 1)


def end_with_parent() -> None:
    """End as soon as the process that asked for this one does, however it ends."""
    parent = parent_process()

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    if parent is not None:
        Thread(target=watch, daemon=True).start()
