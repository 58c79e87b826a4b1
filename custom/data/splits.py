"""Splits of cases into training, validation and test sections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from monai.data import partition_dataset

from ..errors import InputError
from .layouts import SECTIONS, Case, json_lists, named_cases

FOLD_SEED = 12345
# The twelve BTCV case numbers TransUNet tests on; the paper's comparison uses the same ones.
TRANSUNET_TEST = frozenset({1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38})
SPLIT_CHOICES = "'transunet', 'all', a fold such as '0/5', or a JSON file"


def divide(
    cases: Sequence[Case], split: str, folder: Path, contrasts: Sequence[str] | None = None
) -> dict[str, list[Case]]:
    """Split `cases` -> training and test, and validation where a split file lists one."""
    if split == "all":
        return {"training": list(cases), "test": list(cases)}
    if split == "transunet":
        return divide_by(cases, [case.number in TRANSUNET_TEST for case in cases])
    if re.fullmatch(r"\d+/\d+", split):
        return divide_by(cases, fold_membership(len(cases), split, folder))
    if split.endswith(".json"):
        return divide_by_file(cases, split, folder, contrasts)
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


def divide_by_file(
    cases: Sequence[Case], split: str, folder: Path, contrasts: Sequence[str] | None = None
) -> dict[str, list[Case]]:
    """Sections from a JSON file; a missing test list is the validation list."""
    file = folder / split if (folder / split).is_file() else Path(split)
    if not file.is_file():
        raise InputError(f"split file {split} exists neither in {folder} nor here; set split to {SPLIT_CHOICES}")
    lists = json_lists(file)
    parts = {section: named_cases(lists.get(section) or [], folder, cases, file, contrasts) for section in SECTIONS}
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
