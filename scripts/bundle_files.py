"""Which files of a bundle's folder belong to it. Imports nothing that MONAI Label's environment lacks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

# What running a bundle leaves in its folder, Python in `custom`, and the part of it that compares bundles from outside.
NEVER_COPIED = ("__pycache__", "*.pyc", "eval", "cache", "logs", "study")


def copy_bundle(source: str | Path, target: str | Path, left_out: Sequence[str] = ()) -> Path:
    """Copy the bundle `source` to `target` with `custom` for the link to it; returns `target`.

    What is there already is overwritten, other files there stay.

    Args:
        source: the bundle's folder.
        target: the copy's folder, made when missing.
        left_out: patterns of names, at any depth, that are not copied either.
    """
    ignored = shutil.ignore_patterns(*NEVER_COPIED, *left_out)
    return Path(shutil.copytree(source, target, symlinks=False, ignore=ignored, dirs_exist_ok=True))
