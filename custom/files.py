"""Names of files and cases, and files that are complete or absent."""

from __future__ import annotations

import csv
import errno
import json
import logging
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from monai.utils import optional_import

from .errors import InputError

fcntl, HAS_LOCKS = optional_import("fcntl")
logger = logging.getLogger(__name__)

NIFTI_SUFFIXES = (".nii.gz", ".nii")
RADIOGRAPH_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")


def case_name(path: str | Path) -> str:
    """File name without folder and without the ending of an image file, such as .nii.gz or .png."""
    name = Path(path).name
    for suffix in NIFTI_SUFFIXES + RADIOGRAPH_SUFFIXES:
        if has_suffix(name, [suffix]):
            return name[: -len(suffix)]
    return name


def case_names(paths: Iterable[str]) -> dict[str, str]:
    """Path -> name in a table that is handed on. Cases of one name in different folders are numbered; the log tells."""
    ordered = sorted(set(paths))
    totals, seen, names = Counter(map(case_name, ordered)), Counter[str](), {}
    for path in ordered:
        name = case_name(path)
        seen[name] += 1
        names[path] = name if totals[name] == 1 else f"{name} ({seen[name]} of {totals[name]})"
        if totals[name] > 1:
            logger.info(f"the tables call {path} {names[path]}")
    return names


def has_suffix(name: str | Path, suffixes: Sequence[str]) -> bool:
    """Whether a file's name ends in one of `suffixes`, whatever their case."""
    return str(name).lower().endswith(tuple(suffixes))


def source_of(image: str | Path | Sequence[str | Path]) -> str:
    """The path that stands for a case: its file, the folder of its files, or the first of files in several folders."""
    if isinstance(image, str | Path):
        return str(image)
    folders = {Path(path).absolute().parent for path in image}
    return str(folders.pop() if len(folders) == 1 else image[0])


def output_name(meta: Mapping[str, Any], saver: Any) -> dict[str, Any]:
    """Name of a case for the outputs of MONAI's SaveImage, which takes what follows the last dot for an extension."""
    return {"subject": f"{case_name(meta['filename_or_obj'])}.nii.gz", "idx": None}


def case_path(item: Mapping[str, Any], image_key: str = "image") -> str:
    """The file a case was loaded from, out of the metadata of its image."""
    meta = getattr(item.get(image_key), "meta", {})
    if not meta.get("filename_or_obj"):
        raise InputError(
            f"'{image_key}' does not carry the name of its file; load it with LoadImaged and keep its metadata"
        )
    return str(meta["filename_or_obj"])


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` at the end, removed if anything fails.

    A killed run leaves the old file or the new one, never half of one. Makes the folder. InputError if it cannot write.
    """
    path = Path(path)
    number = uuid4().int >> 64  # not the process id, which two machines that share the folder may have at once
    beside = path.with_name(f".{number}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write {path}: {reason}; free disk space or choose another folder") from error
    finally:
        with suppress(OSError):  # nothing to remove where nothing could be written
            beside.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of weights that they were `replacing`. Nothing else may be writing there."""
    for left in folder.glob(".*.pt"):
        if re.fullmatch(r"\.\d+\..+", left.name):
            left.unlink(missing_ok=True)


def hold_folder(folder: Path) -> IO[str] | None:
    """Keep other processes that do the same out of a folder, until the file is closed or this process ends.

    None where the file system, or Windows, has no such locks. InputError if another process holds it, or nothing can be
    written there.
    """
    if not HAS_LOCKS:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise InputError(f"cannot write into {folder}: {error.strerror}; choose another output_dir") from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, not handed to the workers of a loader
    except OSError as error:
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise InputError(f"another run writes into {folder}; end it, or choose another output_dir") from error
        return None
    return file


def read_text(path: str | Path) -> str:
    """A text file in UTF-8; InputError if it cannot be read as one."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error


def read_json(path: str | Path) -> Any:
    """What a JSON file holds; InputError if it cannot be read."""
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON ({error}); repair or replace it") from error


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table that is complete or absent; numbers have six digits and NaN is an empty cell."""
    with replacing(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
