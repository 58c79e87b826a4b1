"""Layouts of datasets on disk, and the cases found in them: MSD, BTCV and plain folders."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import case_name

SECTIONS = ("training", "validation", "test")
NIFTI_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Case:
    """One image and, where it is known, its label."""

    image: Path
    label: Path | None = None

    @property
    def name(self) -> str:
        """The image's file name without its NIfTI extension."""
        return case_name(self.image)

    @property
    def number(self) -> int:
        """The last number in the name, -1 where there is none: img0022 -> 22."""
        digits = re.findall(r"\d+", self.name)
        return int(digits[-1]) if digits else -1


def existing_folder(path: str | Path) -> Path:
    """`path` as a folder that exists."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"dataset_dir {folder} is not a folder; set dataset_dir to the folder that holds the images")
    return folder


def nifti_files(folder: Path) -> list[Path]:
    """NIfTI files directly inside `folder`, sorted by name; hidden files are left out."""
    names = sorted(path for path in folder.iterdir() if path.name.endswith(NIFTI_SUFFIXES) and path.name[0] != ".")
    if not names:
        raise InputError(f"folder {folder} holds no .nii or .nii.gz file; put the images there or name another folder")
    return names


def find_cases(folder: Path) -> tuple[list[Case], str]:
    """Recognise the layout of `folder` -> its cases, in the order folds count them, and its default split."""
    if (folder / "dataset.json").is_file():
        file = folder / "dataset.json"
        return named_cases(json_lists(file).get("training", []), folder, [], file), "0/5"
    if (folder / "imagesTr").is_dir():
        images = nifti_files(folder / "imagesTr")
        return [Case(image, btcv_label(image, folder / "labelsTr")) for image in images], "transunet"
    return [Case(image) for image in nifti_files(folder)], "all"


def btcv_label(image: Path, folder: Path) -> Path | None:
    """The label of imgNNNN: labelNNNN, or the image's own name; None where neither exists."""
    stems = (case_name(image).replace("img", "label", 1), case_name(image))
    candidates = (folder / f"{name}{suffix}" for name in stems for suffix in NIFTI_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def json_lists(file: Path) -> dict[str, Any]:
    """The JSON object in `file`."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON ({error}); repair or replace it") from error
    if not isinstance(content, dict) or not any(isinstance(content.get(section), list) for section in SECTIONS):
        raise InputError(f"{file} holds no list of cases; give it a list under one of {', '.join(SECTIONS)}")
    return content


def named_cases(items: Iterable[Any], folder: Path, known: Sequence[Case], source: Path) -> list[Case]:
    """Turn the items of a JSON list into cases: MSD items, image paths, or names of cases in `known`."""
    lookup = {name: case for case in known for name in (case.name, case.name.removeprefix("img"), case.image.name)}
    cases = []
    for item in items:
        if isinstance(item, dict) and isinstance(item.get("image"), str):
            label = folder / str(item["label"]) if item.get("label") else None
            cases.append(Case(folder / item["image"], label))
        elif isinstance(item, str) and Path(item).name in lookup:
            cases.append(lookup[Path(item).name])
        elif isinstance(item, str) and item.endswith(NIFTI_SUFFIXES):
            cases.append(Case(folder / item))
        else:
            raise InputError(f"{source} lists {item!r}, which is no case of {folder}; correct or remove that entry")
    return cases
