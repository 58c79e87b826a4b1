"""Which files belong to a training, validation or test section: BTCV, MSD and plain folders, and their splits."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.data import partition_dataset

from ..errors import InputError
from ..files import case_name

logger = logging.getLogger(__name__)

SECTIONS = ("training", "validation", "test")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
FOLD_SEED = 12345
# The twelve BTCV case numbers TransUNet tests on; the paper's comparison uses the same ones.
TRANSUNET_TEST = frozenset({1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38})
SPLIT_CHOICES = "'transunet', 'all', a fold such as '0/5', or a JSON file"


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


def datalist(
    dataset_dir: str | Path,
    section: str = "training",
    split: str = "auto",
    validation_cases: int = 0,
    with_labels: bool = True,
) -> list[dict[str, str]]:
    """List one section of a dataset, sorted by case.

    Layouts: MSD (dataset.json with a "training" list), BTCV (imagesTr/imgNNNN.nii.gz with labelsTr/labelNNNN.nii.gz or
    labels under the image's own name), and a plain folder of NIfTI files (images only, `with_labels=False`).

    Args:
        dataset_dir: the dataset's folder.
        section: training, validation or test.
        split: "transunet" (18 cases train, 12 test, by case number; any other number trains), "all" (every case in
            every section), "K/N" (fold K of N tests, shuffled as MONAI's CrossValidation with seed 12345 does), or a
            JSON file with lists "training", "validation", "test" of MSD items or case names, relative to
            `dataset_dir` ("dataset.json" takes MSD's own lists). "auto" is transunet for BTCV, 0/5 for MSD, all for a
            plain folder.
        validation_cases: how many training cases, taken evenly, become the validation section. With 0 the validation
            section IS the test section, as in the reference, so a checkpoint chosen on it has seen the test cases. A
            split file with its own "validation" list keeps that list.
        with_labels: whether the items carry a "label".

    Returns:
        items {"image": path, "label": path}, without "label" when `with_labels` is False.

    Raises:
        InputError: missing or empty folder, missing file or label, unknown split, or no case left in the section.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown; use one of {', '.join(SECTIONS)}")
    folder = existing_folder(dataset_dir)
    cases, default_split = find_cases(folder)
    split = default_split if split == "auto" else split
    parts = hold_out_validation(divide(cases, split, folder), validation_cases, split)
    chosen = sorted(parts[section], key=lambda case: case.name)
    shared = {case.image for case in parts["training"]} & {case.image for case in chosen}
    if section != "training" and shared:
        logger.warning(f"split {split!r}: {len(shared)} of {len(chosen)} {section} cases are training cases too")
    if not chosen:
        raise InputError(
            f"split {split!r} leaves no case in section {section!r} of the {len(cases)} cases in {folder}; "
            f"set split to {SPLIT_CHOICES}"
        )
    return [checked_item(case, with_labels) for case in chosen]


def input_images(
    path: str | Path, skip_done_in: str | Path | None = None, postfix: str = "seg"
) -> list[dict[str, str]]:
    """List one NIfTI file, or those directly inside a folder, sorted by name: [{"image": path}].

    Args:
        path: the file or folder.
        skip_done_in: leave out images that have a `<case>_<postfix>.nii.gz` in this folder already.
        postfix: of the output files.

    Raises:
        InputError: `path` does not exist, is not NIfTI, or is a folder without NIfTI files.
    """
    path = Path(path)
    images = nifti_files(path) if path.is_dir() else [Path(checked_item(Case(path), with_labels=False)["image"])]
    if skip_done_in is None:
        return [{"image": str(image)} for image in images]
    left = [image for image in images if not (Path(skip_done_in) / f"{case_name(image)}_{postfix}.nii.gz").is_file()]
    logger.info(f"{len(images) - len(left)} of {len(images)} images are done already, {len(left)} to do")
    return [{"image": str(image)} for image in left]


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


def divide(cases: Sequence[Case], split: str, folder: Path) -> dict[str, list[Case]]:
    """Split `cases` -> training and test, and validation where a split file lists one."""
    if split == "all":
        return {"training": list(cases), "test": list(cases)}
    if split == "transunet":
        return divide_by(cases, [case.number in TRANSUNET_TEST for case in cases])
    if re.fullmatch(r"\d+/\d+", split):
        return divide_by(cases, fold_membership(len(cases), split, folder))
    if split.endswith(".json"):
        return divide_by_file(cases, split, folder)
    raise InputError(f"split {split!r} of {folder} is unknown; set split to {SPLIT_CHOICES}")


def divide_by(cases: Sequence[Case], in_test: Sequence[bool]) -> dict[str, list[Case]]:
    """Training and test cases from one flag a case."""
    return {
        "training": [case for case, test in zip(cases, in_test, strict=True) if not test],
        "test": [case for case, test in zip(cases, in_test, strict=True) if test],
    }


def fold_membership(count: int, split: str, folder: Path) -> list[bool]:
    """Which of `count` positions belong to fold K of the split "K/N"."""
    fold, folds = (int(part) for part in split.split("/"))
    if fold >= folds or folds > count:
        raise InputError(
            f"split {split!r} needs a fold below the number of folds and at least one case a fold, but {folder} has "
            f"{count} cases; set split to {SPLIT_CHOICES}"
        )
    members = set(partition_dataset(range(count), num_partitions=folds, shuffle=True, seed=FOLD_SEED)[fold])
    return [position in members for position in range(count)]


def divide_by_file(cases: Sequence[Case], split: str, folder: Path) -> dict[str, list[Case]]:
    """Sections from a JSON file; a missing validation or test list is the other one of the two."""
    file = folder / split if (folder / split).is_file() else Path(split)
    if not file.is_file():
        raise InputError(f"split file {split} exists neither in {folder} nor here; set split to {SPLIT_CHOICES}")
    lists = json_lists(file)
    parts = {section: named_cases(lists.get(section) or [], folder, cases, file) for section in SECTIONS}
    parts["test"] = parts["test"] or parts["validation"]
    return {section: members for section, members in parts.items() if members or section != "validation"}


def hold_out_validation(parts: dict[str, list[Case]], count: int, split: str) -> dict[str, list[Case]]:
    """Add the validation section: its own list, `count` cases taken evenly from training, or the test cases."""
    if "validation" in parts:
        return parts
    training = parts["training"]
    if count == 0:
        return {**parts, "validation": parts["test"]}
    if not 0 < count < len(training):
        raise InputError(
            f"validation_cases {count} does not fit the {len(training)} training cases of split {split!r}; "
            f"set validation_cases to a number from 0 to {max(len(training) - 1, 0)}"
        )
    held = {(2 * i + 1) * len(training) // (2 * count) for i in range(count)}
    return {
        **parts,
        "training": [case for position, case in enumerate(training) if position not in held],
        "validation": [training[position] for position in sorted(held)],
    }


def checked_item(case: Case, with_labels: bool) -> dict[str, str]:
    """The case as a data item, after checking that its files exist and are NIfTI."""
    if with_labels and case.label is None:
        raise InputError(
            f"case {case.image} has no label; add it (labelsTr/, or a label entry in the list) or set with_labels=False"
        )
    item = {"image": case.image, "label": case.label} if with_labels else {"image": case.image}
    for key, path in item.items():
        if not path.is_file():
            raise InputError(f"{key} {path} does not exist; correct the path or the list that names it")
        if not str(path).endswith(NIFTI_SUFFIXES):
            raise InputError(f"{key} {path} is not a NIfTI file; convert it to .nii or .nii.gz")
    return {key: str(path) for key, path in item.items()}
