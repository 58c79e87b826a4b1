"""MR contrasts in files of their own: what names reveal of them, their order, and the numbering of the label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from ..files import case_name

# What BraTS calls FLAIR, T1w, T1gd and T2w up to 2021, and since 2023.
OLD_NAMES = ("flair", "t1", "t1ce", "t2")
NEW_NAMES = ("t2f", "t1n", "t1c", "t2w")
CONTRASTS = ("FLAIR", "T1w", "T1gd", "T2w")  # the order of MSD Task01's channels
CONTRAST_OF = {
    name: contrast for names in (OLD_NAMES, NEW_NAMES) for name, contrast in zip(names, CONTRASTS, strict=True)
}
LABEL_NAME = "seg"
UNKNOWN = "unknown"  # the convention of labels whose numbering no name reveals


def last_part(path: str | Path) -> str:
    """The part of a case name after its last underscore or hyphen, in small letters."""
    return case_name(path).replace("-", "_").rsplit("_", 1)[-1].lower()


def contrast_of(path: str | Path, contrasts: Sequence[str]) -> str | None:
    """Which of `contrasts` the last part of a name reveals, or None: BraTS2021_00006_t1ce.nii.gz -> T1gd."""
    part = last_part(path)
    known = {name.lower(): name for name in contrasts}
    return known.get(CONTRAST_OF.get(part, part).lower()) or known.get(part)


def check_order(names: Sequence[str | Path], contrasts: Sequence[str], source: str | Path) -> None:
    """InputError if a name reveals another contrast than the one that `contrasts` has in its place."""
    for place, (name, expected) in enumerate(zip(names, contrasts, strict=False)):
        found = contrast_of(name, contrasts)
        if found not in (None, expected):
            raise InputError(
                f"{source} has {found} as channel {place}, where {expected} is due; "
                f"reorder the contrasts to {', '.join(contrasts)}"
            )


def contrast_files(
    folder: Path, files: Iterable[Path], contrasts: Sequence[str], least: int = 2
) -> tuple[Path, ...] | None:
    """One file a contrast out of `files`, in the order of `contrasts`; None where fewer than `least` are recognised."""
    found: dict[str, Path] = {}
    for file in files:
        contrast = contrast_of(file, contrasts)
        if contrast in found:
            twice = f"{found[contrast].name} and {file.name}"
            raise InputError(f"{folder} has two files of contrast {contrast}, {twice}; remove one")
        if contrast is not None:
            found[contrast] = file
    if len(found) < least:
        return None
    missing = [contrast for contrast in contrasts if contrast not in found]
    if missing:
        names = [missing[0], *(name for name, contrast in CONTRAST_OF.items() if contrast == missing[0])]
        raise InputError(f"{folder} has no file of contrast {missing[0]}; add one ending in {' or '.join(names)}")
    return tuple(found[contrast] for contrast in contrasts)


def label_file(folder: Path, files: Iterable[Path]) -> Path | None:
    """The label beside the contrasts; InputError if there are two."""
    labels = [file for file in files if last_part(file) == LABEL_NAME]
    if len(labels) > 1:
        raise InputError(f"{folder} has two labels, {labels[0].name} and {labels[1].name}; remove one")
    return labels[0] if labels else None


def label_convention(files: Iterable[Path]) -> str:
    """How labels beside these files are numbered: as BraTS did when it used such names, else unknown."""
    parts = {last_part(file) for file in files}
    return "brats2021" if parts <= set(OLD_NAMES) else "brats2023" if parts <= set(NEW_NAMES) else UNKNOWN
