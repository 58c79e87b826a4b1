"""Names of files and cases, and files that are complete or absent."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import InputError


def case_name(path: str | Path) -> str:
    """File name without folder and .nii or .nii.gz."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii")


def source_of(image: str | Path | Sequence[str | Path]) -> str:
    """The path that stands for a case: its file, or the folder where each contrast is a file of its own."""
    return str(image) if isinstance(image, str | Path) else str(Path(image[0]).resolve().parent)


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
    beside = path.with_name(f".{os.getpid()}.{path.name}")
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
