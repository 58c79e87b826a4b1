"""Python processes that may reach no other machine, and a record of every attempt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.tiny import ROOT

# Imported by every Python process with its folder on PYTHONPATH. Sockets between processes have a path for an address.
SITECUSTOMIZE = """
import os, sys

ASKING = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
          "socket.gethostbyname", "socket.gethostbyaddr")

def forbid(event, arguments):
    if event in ASKING:
        asked = arguments[0] if "get" in event else arguments[1]
        if "get" in event or isinstance(asked, tuple):
            with open(os.environ["ASKED"], "a") as file:
                file.write(f"{event} {asked} by {' '.join(sys.argv)}\\n")
            raise PermissionError(f"{event} {asked}: no network in this test")

sys.addaudithook(forbid)
"""
RUN = """
import json, sys
from monai.bundle import run
for options in json.load(open(sys.argv[1])):
    run(**options)
"""


def run_offline(command: Sequence[str], folder: Path) -> list[str]:
    """Run Python with the arguments `command` from the project's root -> what it, or its children, asked the network.

    `folder` is made for what the ban needs. Sockets that C++ opens are not seen.
    AssertionError with the end of its output where the command fails.
    """
    folder.mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    asked = folder / "asked.txt"
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTEST", "CI"))}
    environment = outside | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "ASKED": str(asked), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-W", "ignore", *command]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return asked.read_text().splitlines() if asked.is_file() else []


def run_bundles_offline(runs: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """`monai.bundle.run` with each of `runs`, one after the other in one process; else as `run_offline`."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    jobs = folder.with_suffix(".json")
    jobs.write_text(json.dumps(runs))
    return run_offline(["-c", RUN, str(jobs)], folder)
