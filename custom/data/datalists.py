"""Which files belong to a training, validation or test section, and which a user hands in for inference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import NIFTI_SUFFIXES, case_name, source_of
from .layouts import SECTIONS, Case, cases_of_many_files, existing_folder, find_cases, nifti_files
from .splits import SPLIT_CHOICES, divide, hold_out_validation

logger = logging.getLogger(__name__)


def datalist(
    dataset_dir: str | Path,
    section: str = "training",
    split: str = "auto",
    validation_cases: int = 0,
    with_labels: bool = True,
    contrasts: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List one section of a dataset, sorted by case.

    Layouts: MSD (dataset.json with a "training" list), BTCV (imagesTr/imgNNNN.nii.gz with labelsTr/labelNNNN.nii.gz),
    the same folders with names of your own, which image and label share, BraTS (a folder a case, in it a file a
    contrast and `seg`), a folder a channel (named as `contrasts`, `label` beside them; a case has one name in
    all), and a plain folder of NIfTI files (images only, `with_labels=False`).

    Args:
        dataset_dir: the dataset's folder.
        section: training, validation or test.
        split: "transunet" (18 cases train, 12 test, by case number; any other number trains), "all" (every case in
            every section), "K/N" (fold K of N tests, shuffled as MONAI's CrossValidation with seed 12345 does), or a
            JSON file with lists "training", "validation", "test" of MSD items or case names, relative to
            `dataset_dir` ("dataset.json" takes MSD's own lists). "auto" is transunet for BTCV, 0/5 for MSD,
            BraTS and names of your own, all for a plain folder; a mixture of BTCV's names with others is refused.
        validation_cases: how many training cases, taken evenly, become the validation section. With 0 the validation
            section IS the test section, as in the reference, so a checkpoint chosen on it has seen the test cases. A
            split file with its own "validation" list keeps that list.
        with_labels: whether the items carry a "label".
        contrasts: names of the channels; given, folders of a case or of a channel are recognised, and an order that
            names reveal to be another is refused.

    Returns:
        items {"image": path, "label": path}, without "label" when `with_labels` is False; of BraTS, "image" is a list
        of paths in the order of `contrasts`, and "convention" says how the label is numbered.

    Raises:
        InputError: missing or empty folder, missing file or label, unknown split, or no case left in the section.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown; use one of {', '.join(SECTIONS)}")
    folder = existing_folder(dataset_dir)
    cases, default_split = find_cases(folder, contrasts)
    split = default_split if split == "auto" else split
    if not split:
        raise InputError(f"{folder} mixes BTCV's names, imgNNNN, with others; set split to {SPLIT_CHOICES}")
    parts = hold_out_validation(divide(cases, split, folder, contrasts), validation_cases, split)
    chosen = sorted(parts[section], key=lambda case: case.name)
    shared = {case.images for case in parts["training"]} & {case.images for case in chosen}
    if section != "training" and shared:
        logger.warning(f"split {split!r}: {len(shared)} of {len(chosen)} {section} cases are training cases too")
    if section == "validation" and chosen == sorted(parts["test"], key=lambda case: case.name):
        logger.warning("validation cases are the test cases; a checkpoint chosen on them has seen them")
    if not chosen:
        raise InputError(
            f"split {split!r} leaves no case in section {section!r} of the {len(cases)} cases in {folder}; "
            f"set split to {SPLIT_CHOICES}"
        )
    logger.info(f"split {split}: {len(chosen)} {section} of {len(cases)} cases")
    return [checked_item(case, with_labels) for case in chosen]


def input_images(
    path: str | Path,
    skip_done_in: str | Path | None = None,
    postfix: str = "seg",
    contrasts: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """List one NIfTI file, or those directly inside a folder, sorted by name: [{"image": path}].

    With `contrasts`, a folder with one file a contrast, and folders of that kind in a folder, are cases too.

    Args:
        path: the file or folder.
        skip_done_in: leave out images that have a `<case>_<postfix>.nii.gz` in this folder already.
        postfix: of the output files.
        contrasts: names of the channels.

    Raises:
        InputError: `path` does not exist, is not NIfTI, or is a folder without NIfTI files or with one twice.
    """
    path = Path(path)
    cases = inputs_in(path, postfix, contrasts) if path.is_dir() else [Case(path)]
    items = [checked_item(case, with_labels=False) for case in cases]
    if skip_done_in is None:
        return items
    done = {case_name(file) for file in Path(skip_done_in).glob(f"*_{postfix}.nii.gz")}
    left = [item for item in items if f"{case_name(source_of(item['image']))}_{postfix}" not in done]
    logger.info(f"{len(items) - len(left)} of {len(items)} images are done already, {len(left)} to do")
    return left


def inputs_in(folder: Path, postfix: str, contrasts: Sequence[str] | None) -> list[Case]:
    """The cases of a folder without the outputs of an earlier run."""
    whole = cases_of_many_files(folder, contrasts)
    parts = {file for case in whole for file in (*case.images, case.label)}
    files = [file for file in (folder.iterdir() if whole else nifti_files(folder)) if file not in parts]
    files = sorted(file for file in files if file.name.endswith(NIFTI_SUFFIXES) and file.name[0] != ".")
    names = [case.name for case in whole] + [case_name(file) for file in files]
    outputs = {f"{name}_{postfix}" for name in names}
    cases = [Case(file) for file in files if case_name(file) not in outputs]
    if len(cases) < len(files):
        logger.info(f"{len(files) - len(cases)} files in {folder} are outputs of an earlier run and are left out")
    return [*whole, *cases]


def checked_item(case: Case, with_labels: bool) -> dict[str, Any]:
    """The case as a data item, after checking that its files exist and are NIfTI."""
    if with_labels and case.label is None:
        raise InputError(
            f"case {source_of(case.image)} has no label; set dataset_dir to the folder above imagesTr if labelsTr is "
            "there, else add the label or leave the case out by a split file"
        )
    files = [("image", path) for path in case.images] + ([("label", case.label)] if with_labels else [])
    for key, path in files:
        if not path.is_file():
            raise InputError(f"{key} {path} does not exist; correct the path or the list that names it")
        if not str(path).endswith(NIFTI_SUFFIXES):
            raise InputError(f"{key} {path} is not a NIfTI file; convert it to .nii or .nii.gz")
    item: dict[str, Any] = {
        "image": [str(path) for path in case.image] if isinstance(case.image, tuple) else str(case.image)
    }
    item |= {"label": str(case.label)} if with_labels else {}
    return item | ({"convention": case.convention} if case.convention else {})
