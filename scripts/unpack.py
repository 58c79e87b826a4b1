"""A release of others into a folder, checked: `python -m scripts.unpack ARCHIVE FOLDER`."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from custom.errors import InputError, explain_errors
from custom.files import read_text

from .archives import unzip
from .command_line import run_command_line


def unpack(archive: str, output_dir: str, sha256: str = "", fetch: bool = False) -> str:
    """Unzip a bundle's archive, or nothing of it; returns the bundle's folder.

    Args:
        archive: a zip as `make pack` writes it; without it in `sha256`, its hash is read from ARCHIVE.sha256.
        output_dir: where the bundle's folder goes.
        sha256: the hash that the owner of the archive told you.
        fetch: whether to download the files in large_files.yml as well, each with a sha256 of its own.

    Raises:
        InputError: no hash to compare with, or whatever is wrong with archive or downloads.
    """
    if not Path(archive).is_file():
        raise InputError(f"{archive} does not exist; correct the path")
    expected = str(sha256) or hash_beside(Path(f"{archive}.sha256"))
    if not re.fullmatch("[0-9a-fA-F]{64}", expected):
        raise InputError(f"{expected!r} is no sha256; give its 64 hexadecimal digits")
    return str(unzip(Path(archive), Path(output_dir), expected, fetch))


def hash_beside(file: Path) -> str:
    """The hash in a file as sha256sum writes it; InputError where there is none."""
    words = read_text(file).split() if file.is_file() else []
    if not words:
        raise InputError(f"nothing says which sha256 the archive must have; give --sha256, or put {file} beside it")
    return words[0]


if __name__ == "__main__":
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_command_line(unpack)
