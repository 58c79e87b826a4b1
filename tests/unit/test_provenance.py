"""Which code made something."""

import os
import subprocess
from pathlib import Path

import pytest

from custom import provenance


def git(folder: Path, *arguments: str) -> None:
    """Run git in a repository of the test's own."""
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    own |= {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *arguments], cwd=folder, env=os.environ | own, check=True, capture_output=True)


def test_code_is_that_of_a_commit_or_of_changes_on_top_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.current_commit() == "unknown"
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "a.py").write_text("1")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "a")
    clean = provenance.current_commit()
    (tmp_path / "performance.json").write_text("a report is not what is measured")
    assert provenance.current_commit() == clean and "dirty" not in clean
    (tmp_path / "scripts" / "a.py").write_text("2")
    assert provenance.current_commit() == f"{clean}-dirty"
