"""What the checks of a release ask of the world outside the bundle: a web server, pip's package index, git."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import Any


class Unchecked(Exception):  # noqa: N818 - it is no error of the bundle
    """Why a check could not be made on this machine."""


def read_schema(url: str) -> dict[str, Any]:
    """The schema. Raises FileNotFoundError if its server says that it does not exist, Unchecked if none answers."""
    local = os.environ.get("METADATA_SCHEMA")
    if local:
        return json.loads(Path(local).read_text())
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError) and error.code in (404, 410):
            raise FileNotFoundError(url) from error
        raise Unchecked(f"the metadata, because {url} cannot be read ({error}); set METADATA_SCHEMA") from error


@cache
def index_versions(package: str) -> frozenset[str]:
    """Versions of a package that suit this Python, from the index pip is configured with; empty if it has none."""
    command = [sys.executable, "-m", "pip", "index", "versions", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    listed = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
    return frozenset(listed[1].split(", ")) if listed else frozenset()


def git(root: Path, *words: str) -> str:
    """What a git command about the folder `root` prints. Raises Unchecked if there is no git, or no checkout."""
    command = ["git", "-c", "core.quotePath=false", "-C", str(root), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise Unchecked("whether its files are committed, because git is not installed") from error
    except subprocess.CalledProcessError as error:
        reason = next(iter(error.stderr.strip().splitlines()), f"status {error.returncode}")
        raise Unchecked(f"whether its files are committed, because git says: {reason}") from error
