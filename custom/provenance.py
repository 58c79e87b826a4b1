"""Which code and which packages made something."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def versions() -> dict[str, str]:
    """Of Python, torch, monai and the code here."""
    packages = {name: version(name) for name in ("torch", "monai")}
    return {"python": platform.python_version(), **packages, "code": current_commit()}


def current_commit() -> str:
    """Short hash of the code here, with "-dirty" where what runs differs from it; "unknown" outside git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "bundles", "custom", "scripts")
        return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
