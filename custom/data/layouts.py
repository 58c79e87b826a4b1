"""Layouts of datasets on disk, and the cases found in them: MSD, BTCV, BraTS and plain folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import NIFTI_SUFFIXES, case_name, read_json, source_of
from .contrasts import UNKNOWN, check_order, contrast_files, label_convention, label_file

SECTIONS = ("training", "validation", "test")
BTCV_NAME = re.compile(r"img\d{4}")


@dataclass(frozen=True)
class Case:
    """One image, a file or one file a channel, and, where they are known, its label and how that is numbered."""

    image: Path | tuple[Path, ...]
    label: Path | None = None
    convention: str | None = None

    @property
    def name(self) -> str:
        """The name of the image's file without its NIfTI extension, or of the folder of its files."""
        return case_name(source_of(self.image))

    @property
    def images(self) -> tuple[Path, ...]:
        """The image's files."""
        return self.image if isinstance(self.image, tuple) else (self.image,)

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
    twice = [name for name, count in Counter(map(case_name, names)).items() if count > 1]
    if twice:
        raise InputError(
            f"folder {folder} holds both {twice[0]}.nii and {twice[0]}.nii.gz; remove or rename one of them"
        )
    if not names:
        below = next((folder / name for name in ("imagesTs", "imagesTr") if (folder / name).is_dir()), "another folder")
        raise InputError(f"folder {folder} holds no .nii or .nii.gz file; put the images there or name {below}")
    return names


def find_cases(folder: Path, contrasts: Sequence[str] | None = None) -> tuple[list[Case], str]:
    """Recognise the layout of `folder` -> its cases, in the order folds count them, and its default split, "" for none.

    `contrasts`: names of the channels, to look for cases with one file a channel and to check orders; None for none.
    """
    if (folder / "dataset.json").is_file():
        file = folder / "dataset.json"
        content = json_lists(file)
        check_order(modalities(content.get("modality")), contrasts or (), file)
        return named_cases(content.get("training") or [], folder, [], file, contrasts), "0/5"
    if (folder / "imagesTr").is_dir():
        images = nifti_files(folder / "imagesTr")
        cases = [Case(image, btcv_label(image, folder / "labelsTr")) for image in images]
        named = {bool(BTCV_NAME.fullmatch(case.name)) for case in cases}
        return cases, {True: "transunet", False: "0/5"}[named.pop()] if len(named) == 1 else ""
    cases = cases_of_many_files(folder, contrasts)
    return (cases, "0/5") if cases else ([Case(image) for image in nifti_files(folder)], "all")


def modalities(value: Any) -> list[str]:
    """The names of MSD's "modality", in the order of its keys where it has any."""
    if isinstance(value, dict):
        return [str(value[key]) for key in sorted(value, key=lambda key: (len(str(key)), str(key)))]
    return [str(name) for name in value] if isinstance(value, list) else []


def cases_of_many_files(folder: Path, contrasts: Sequence[str] | None) -> list[Case]:
    """The cases of a folder with one file a channel: in a folder a channel, or in a folder a case; or none."""
    return cases_by_channel(folder, contrasts or ()) or brats_cases(folder, contrasts)


def cases_by_channel(folder: Path, contrasts: Sequence[str]) -> list[Case]:
    """The cases of a folder that has a folder for each channel, in it a file for each case, and perhaps `label`."""
    if not contrasts or not all((folder / name).is_dir() for name in contrasts):
        return []
    channels = [{case_name(path): path for path in nifti_files(folder / name)} for name in contrasts]
    for name, files in zip(contrasts, channels, strict=True):
        if missing := sorted(set().union(*channels) - set(files)):
            raise InputError(f"{folder / name} has no {missing[0]}, which other channels have; add it or remove those")
    labels = {case_name(path): path for path in nifti_files(folder / "label")} if (folder / "label").is_dir() else {}
    images = {name: tuple(files[name] for files in channels) for name in channels[0]}
    return [Case(paths if len(paths) > 1 else paths[0], labels.get(name), UNKNOWN) for name, paths in images.items()]


def brats_cases(folder: Path, contrasts: Sequence[str] | None) -> list[Case]:
    """The cases of a folder that is one, or that holds one folder a case, itself or in HGG and LGG; or none."""
    if not contrasts:
        return []
    below = sorted(path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_dir())
    folders = [folder, *below]
    if not any(brats_case(path, contrasts) for path in folders):
        return []
    return [case for path in folders if (case := brats_case(path, contrasts, least=1))]  # one file is a fault by now


def brats_case(folder: Path, contrasts: Sequence[str], least: int = 2) -> Case | None:
    """The case whose contrasts, at least `least`, and label, if any, are the files of `folder`; None for any other."""
    files = sorted(path for path in folder.iterdir() if path.name.endswith(NIFTI_SUFFIXES) and path.name[0] != ".")
    images = contrast_files(folder, files, contrasts, least)
    return Case(images, label_file(folder, files), label_convention(images)) if images else None


def btcv_label(image: Path, folder: Path) -> Path | None:
    """The label of imgNNNN: labelNNNN, or the image's own name; None where neither exists."""
    stems = (case_name(image).replace("img", "label", 1), case_name(image))
    candidates = (folder / f"{name}{suffix}" for name in stems for suffix in NIFTI_SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def json_lists(file: Path) -> dict[str, Any]:
    """The JSON object in `file`."""
    content = read_json(file)
    lists = [content.get(section) for section in SECTIONS] if isinstance(content, dict) else []
    if not any(isinstance(cases, list) for cases in lists) or not all(
        isinstance(cases, list | None) for cases in lists
    ):
        raise InputError(f"{file} holds no list of cases; give it a list under one of {', '.join(SECTIONS)}")
    return content


def named_cases(
    items: Iterable[Any], folder: Path, known: Sequence[Case], source: Path, contrasts: Sequence[str] | None = None
) -> list[Case]:
    """Turn the items of a JSON list into cases: MSD items, image paths, or names of cases in `known`."""
    lookup = {name: case for case in known for name in (case.name, case.name.removeprefix("img"), case.images[0].name)}
    cases = []
    for item in items:
        if isinstance(item, dict) and is_image(item.get("image")):
            cases.append(listed_case(item, folder, source, contrasts))
        elif isinstance(item, str) and Path(item).name in lookup:
            cases.append(lookup[Path(item).name])
        elif isinstance(item, str) and item.endswith(NIFTI_SUFFIXES):
            cases.append(Case(folder / item))
        else:
            raise InputError(f"{source} lists {item!r}, which is no case of {folder}; correct or remove that entry")
    counts = Counter(case.name for case in cases if isinstance(case.image, tuple))
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(
            f"{source} has {counts[twice[0]]} cases that would be called {twice[0]}; give each a folder of its own, or "
            "each channel"
        )
    return cases


def is_image(value: Any) -> bool:
    """Whether this is a path, or a list of them."""
    return bool(value) and all(isinstance(path, str) for path in (value if isinstance(value, list) else [value]))


def listed_case(item: dict[str, Any], folder: Path, source: Path, contrasts: Sequence[str] | None) -> Case:
    """The case of an MSD item: an image, or a list of one file a channel, and a label."""
    label = folder / str(item["label"]) if item.get("label") else None
    if isinstance(item["image"], str):
        return Case(folder / item["image"], label)
    check_order(item["image"], contrasts or (), source)
    images = tuple(folder / name for name in item["image"])
    return Case(images, label, label_convention(images))
