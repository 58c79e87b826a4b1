"""Files of 2D images as a user hands them in."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import RADIOGRAPH_SUFFIXES, case_name, has_suffix

logger = logging.getLogger(__name__)

DICOM_MAGIC = b"DICM"  # after a preamble of 128 bytes


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its content; hospitals often give it no ending."""
    with path.open("rb") as file:
        return file.read(132)[128:] == DICOM_MAGIC


def is_radiograph(path: Path) -> bool:
    """Whether a file is an image by its ending, or DICOM by its content."""
    if not path.is_file() or path.name[0] == ".":
        return False
    return has_suffix(path.name, RADIOGRAPH_SUFFIXES) or is_dicom(path)


def radiograph_files(folder: Path) -> list[Path]:
    """The images directly inside `folder`, or else in its `images`, sorted by name."""
    for place in (folder, folder / "images"):
        files = sorted(path for path in place.iterdir() if is_radiograph(path)) if place.is_dir() else []
        twice = [name for name, count in Counter(map(case_name, files)).items() if count > 1]
        if twice:
            raise InputError(f"folder {place} holds {twice[0]} with two endings; remove or rename one of them")
        if files:
            return files
    raise InputError(
        f"folder {folder} holds no image; put {', '.join(RADIOGRAPH_SUFFIXES)} files there or name another folder"
    )


def input_radiographs(path: str | Path, skip_done_in: str | Path | None = None) -> list[dict[str, Any]]:
    """List one image file, or those directly inside a folder, sorted by name: [{"image": path}].

    Args:
        path: the file or folder.
        skip_done_in: leave out images that have a `<case>_findings.json` in this folder already.

    Raises:
        InputError: `path` does not exist, or is a folder without images or with one twice.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"image {path} does not exist; correct the path")
    files = images_in(path) if path.is_dir() else [path]
    done = {file.name for file in Path(skip_done_in).glob("*_findings.json")} if skip_done_in else set()
    left = [file for file in files if f"{case_name(file)}_findings.json" not in done]
    if skip_done_in:
        logger.info(f"{len(files) - len(left)} of {len(files)} images are done already, {len(left)} to do")
    return [{"image": str(file)} for file in left]


def images_in(folder: Path) -> list[Path]:
    """The images of a folder without the pictures that an earlier run drew of them."""
    files = radiograph_files(folder)
    drawn = {f"{case_name(file)}_relevance" for file in files}
    kept = [file for file in files if case_name(file) not in drawn]
    if len(kept) < len(files):
        logger.info(f"{len(files) - len(kept)} files in {folder} are pictures of an earlier run and are left out")
    return kept
