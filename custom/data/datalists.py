"""Which files belong to a training, validation or test section, and which a user hands in for inference."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from ..errors import InputError
from ..files import case_name
from .layouts import NIFTI_SUFFIXES, SECTIONS, Case, existing_folder, find_cases, nifti_files
from .splits import SPLIT_CHOICES, divide, hold_out_validation

logger = logging.getLogger(__name__)


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
        InputError: `path` does not exist, is not NIfTI, or is a folder without NIfTI files or with one twice.
    """
    path = Path(path)
    images = inputs_in(path, postfix) if path.is_dir() else [Path(checked_item(Case(path), with_labels=False)["image"])]
    if skip_done_in is None:
        return [{"image": str(image)} for image in images]
    left = [image for image in images if not (Path(skip_done_in) / f"{case_name(image)}_{postfix}.nii.gz").is_file()]
    logger.info(f"{len(images) - len(left)} of {len(images)} images are done already, {len(left)} to do")
    return [{"image": str(image)} for image in left]


def inputs_in(folder: Path, postfix: str) -> list[Path]:
    """The images of a folder without the outputs of an earlier run; InputError if two would share an output."""
    files = nifti_files(folder)
    names = Counter(case_name(file) for file in files)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise InputError(
            f"folder {folder} holds both {twice[0]}.nii and {twice[0]}.nii.gz; remove or rename one of them"
        )
    outputs = {f"{name}_{postfix}" for name in names}
    images = [file for file in files if case_name(file) not in outputs]
    if len(images) < len(files):
        logger.info(f"{len(files) - len(images)} files in {folder} are outputs of an earlier run and are left out")
    return images


def checked_item(case: Case, with_labels: bool) -> dict[str, str]:
    """The case as a data item, after checking that its files exist and are NIfTI."""
    if with_labels and case.label is None:
        raise InputError(
            f"case {case.image} has no label; set dataset_dir to the folder that holds imagesTr and labelsTr, or a "
            "dataset.json that names image and label"
        )
    item = {"image": case.image, "label": case.label} if with_labels else {"image": case.image}
    for key, path in item.items():
        if not path.is_file():
            raise InputError(f"{key} {path} does not exist; correct the path or the list that names it")
        if not str(path).endswith(NIFTI_SUFFIXES):
            raise InputError(f"{key} {path} is not a NIfTI file; convert it to .nii or .nii.gz")
    return {key: str(path) for key, path in item.items()}
