"""Four MR contrasts of the brain: their order, the names of their files, and cases with one file a contrast (BraTS)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import case_name

CONTRASTS = ("FLAIR", "T1w", "T1gd", "T2w")  # the order of the channels, which is that of MSD Task01
# What BraTS calls them up to 2021, and since 2023; MSD's names, and what may follow, are below.
OLD_NAMES = ("flair", "t1", "t1ce", "t2")
NEW_NAMES = ("t2f", "t1n", "t1c", "t2w")
CONTRAST_OF = {
    name: contrast
    for names in (OLD_NAMES, NEW_NAMES, ("flair", "t1w", "t1gd", "t2w"))
    for name, contrast in zip(names, CONTRASTS, strict=True)
}
LABEL_NAME = "seg"


def contrast_of(name: str | Path) -> str | None:
    """The contrast that the last part of a file name reveals, or None: BraTS2021_00006_t1ce.nii.gz -> T1gd."""
    return CONTRAST_OF.get(last_part(name))


def last_part(path: str | Path) -> str:
    """The part of a case name after its last underscore or hyphen, in small letters."""
    return case_name(path).replace("-", "_").rsplit("_", 1)[-1].lower()


def check_order(names: Sequence[str | Path], source: str | Path) -> None:
    """InputError if names reveal all four contrasts in another order than CONTRASTS."""
    found = tuple(contrast_of(name) for name in names)
    if set(found) == set(CONTRASTS) and found != CONTRASTS:
        raise InputError(
            f"{source} has the contrasts {', '.join(map(str, found))}; reorder them to {', '.join(CONTRASTS)}"
        )


def contrast_files(folder: Path, files: Sequence[Path], least: int = 2) -> list[Path] | None:
    """One file a contrast out of `files`, in the order of CONTRASTS; None where fewer than `least` are recognised."""
    found: dict[str, Path] = {}
    for file in files:
        contrast = contrast_of(file)
        if contrast in found:
            raise InputError(
                f"{folder} has two files of contrast {contrast}, {found[contrast].name} and {file.name}; remove one"
            )
        if contrast is not None:
            found[contrast] = file
    if len(found) < least:
        return None
    missing = [contrast for contrast in CONTRASTS if contrast not in found]
    if missing:
        expected = "one ending in " + " or ".join(
            name for name, contrast in CONTRAST_OF.items() if contrast == missing[0]
        )
        raise InputError(f"{folder} has no file of contrast {missing[0]}; add {expected}")
    return [found[contrast] for contrast in CONTRASTS]


def label_convention(files: Sequence[Path]) -> str:
    """How the labels beside these files are numbered: brats2023 where the names are those BraTS uses since then."""
    return "brats2023" if {last_part(file) for file in files} & set(NEW_NAMES) else "brats2021"
