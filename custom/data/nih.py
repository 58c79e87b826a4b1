"""ChestX-ray14 in the files of its publisher, the NIH Clinical Center (Wang et al., CVPR 2017).

A folder holds `images/`, or `images_001/images/` to `images_012/images/` as they are downloaded, `Data_Entry_2017.csv`
and the official `train_val_list.txt` and `test_list.txt`. Sections are divided by patient, never by image.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import case_name
from .layouts import SECTIONS, existing_folder
from .radiographs import radiograph_files

logger = logging.getLogger(__name__)

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
"""The 14 findings in NIH's order, which is the order of the labels' and the predictions' channels."""

NO_FINDING = "No Finding"
COLUMNS = ("Image Index", "Finding Labels", "Patient ID")
TRAINING_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"


@dataclass(frozen=True)
class Radiograph:
    """One image: its file, its patient and its findings."""

    path: Path
    patient: str
    findings: tuple[str, ...]


def nih_datalist(
    dataset_dir: str | Path | Sequence[str | Path],
    section: str = "training",
    class_names: Sequence[str] = FINDINGS,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.25,
    split_seed: int = 0,
    with_labels: bool = True,
) -> list[dict[str, Any]]:
    """List one section of chest X-rays in NIH's layout, or of a plain folder of images, sorted by file name.

    Args:
        dataset_dir: the folder, or several, whose sections are put together; a patient is on the same side in all.
        section: training, validation or test.
        class_names: the findings, in the order of the label's channels.
        validation_fraction: share of the patients outside test that becomes the validation section. With 0 the
            validation section IS the test section, as in the reference, so what is chosen on it has seen the test.
        test_fraction: share of the patients that becomes the test section where there is no `test_list.txt`.
        split_seed: of the choice of those patients, which depends on nothing else but their IDs.
        with_labels: False for images without Data_Entry_2017.csv, all of which are in every section.

    Returns:
        items {"image": path, "patient": ID, "label": 0 or 1 for each class name}; "label" only `with_labels`.

    Raises:
        InputError: a missing folder, file or column, an image that a list names but no folder holds or no row
            describes, an unknown finding, a patient in two official lists, or an empty section.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown; use one of {', '.join(SECTIONS)}")
    folders = [dataset_dir] if isinstance(dataset_dir, str | Path) else list(dataset_dir)
    fractions = {"validation": validation_fraction, "test": test_fraction}
    items: list[dict[str, Any]] = []
    for folder in map(existing_folder, folders):
        if with_labels or entry_file(folder):
            parts = patient_sections(folder, class_names, fractions, split_seed)
            items += [as_item(radiograph, class_names if with_labels else None) for radiograph in parts[section]]
        else:
            items += [{"image": str(path), "patient": case_name(path)} for path in radiograph_files(folder)]
    if not items:
        raise InputError(
            f"section {section!r} of {', '.join(map(str, folders))} is empty; raise validation_fraction or "
            "test_fraction, or give more patients"
        )
    return items


def patient_sections(
    folder: Path, class_names: Sequence[str], fractions: Mapping[str, float], seed: int
) -> dict[str, list[Radiograph]]:
    """The official or, without lists, a patient-wise division of `folder` into training, validation and test."""
    known = read_entries(folder, class_names)
    parts: dict[str, list[Radiograph]] = {name: [] for name in SECTIONS}
    official = (folder / TEST_LIST).is_file()
    parts["test"] = listed(folder, TEST_LIST, known) if official else []
    chosen = set(parts["test"])
    rest = [radiograph for radiograph in known.values() if radiograph not in chosen]
    rest = listed(folder, TRAINING_LIST, known) if (folder / TRAINING_LIST).is_file() else rest
    check_disjoint(rest, parts["test"], folder)
    for radiograph in rest:
        if not official and share(radiograph.patient, "test", seed) < fractions["test"]:
            parts["test"].append(radiograph)
        elif share(radiograph.patient, "validation", seed) < fractions["validation"]:
            parts["validation"].append(radiograph)
        else:
            parts["training"].append(radiograph)
    if not fractions["validation"]:
        logger.warning("validation images are the test images; a checkpoint chosen on them has seen them")
        parts["validation"] = parts["test"]
    return {name: sorted(members, key=lambda radiograph: radiograph.path.name) for name, members in parts.items()}


def share(patient: str, purpose: str, seed: int) -> float:
    """A number from 0 to 1 that belongs to a patient: the same in every folder and in every run."""
    digest = hashlib.sha256(f"{seed} {purpose} {patient}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def check_disjoint(training: Sequence[Radiograph], test: Sequence[Radiograph], folder: Path) -> None:
    """No patient is in both official lists."""
    both = sorted({radiograph.patient for radiograph in training} & {radiograph.patient for radiograph in test})
    if both:
        raise InputError(
            f"{folder}: {len(both)} patients are in both {TRAINING_LIST} and {TEST_LIST}, first patient {both[0]}; "
            "remove the images of each from one of them"
        )


def entry_file(folder: Path) -> Path | None:
    """Data_Entry_2017.csv, under this or the name of a later release; None where there is none."""
    found = sorted(folder.glob("Data_Entry*.csv"))
    if len(found) > 1:
        raise InputError(f"{folder} holds {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def read_entries(folder: Path, class_names: Sequence[str]) -> dict[str, Radiograph]:
    """The rows of Data_Entry_2017.csv whose images exist, by file name."""
    file = entry_file(folder)
    if file is None:
        raise InputError(f"{folder} holds no Data_Entry_2017.csv; set dataset_dir to the folder that holds it")
    files = image_files(folder)
    found: dict[str, Radiograph] = {}
    with file.open(newline="", encoding="utf-8-sig") as opened:
        rows = csv.DictReader(opened)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{file} has no column {missing[0]!r}; use NIH's file, or name its columns so")
        for row in rows:
            name = row["Image Index"]
            if name in found:
                raise InputError(f"{file} describes {name} twice; remove one of the rows")
            findings = known_findings(row["Finding Labels"], class_names, name, file)
            if name in files:
                found[name] = Radiograph(files[name], row["Patient ID"].strip(), findings)
    return found


def known_findings(text: str, class_names: Sequence[str], name: str, file: Path) -> tuple[str, ...]:
    """ "Effusion|Mass" -> its findings; none for "No Finding"."""
    findings = tuple(part.strip() for part in text.split("|") if part.strip() not in ("", NO_FINDING))
    unknown = [finding for finding in findings if finding not in class_names]
    if unknown:
        raise InputError(
            f"{file} gives {name} the finding {unknown[0]!r}, which is none of {', '.join(class_names)}; correct it "
            "or set class_names"
        )
    return findings


def image_files(folder: Path) -> dict[str, Path]:
    """File name -> path of everything in images/ and images_*/images/."""
    places = [place for place in (folder / "images", *sorted(folder.glob("images_*/images"))) if place.is_dir()]
    if not places:
        raise InputError(f"{folder} holds neither images/ nor images_001/images/; unpack NIH's archives there")
    return {path.name: path for place in places for path in place.iterdir()}


def listed(folder: Path, name: str, known: Mapping[str, Radiograph]) -> list[Radiograph]:
    """The images that an official list names."""
    names = [line.strip() for line in (folder / name).read_text(encoding="utf-8").splitlines() if line.strip()]
    lost = [image for image in names if image not in known]
    if lost:
        reason = (
            "which no row of Data_Entry_2017.csv describes" if lost[0] in image_files(folder) else "which is missing"
        )
        raise InputError(
            f"{folder / name} names {lost[0]}, {reason} ({len(lost)} of {len(names)} are so); unpack all archives, or "
            "shorten the list"
        )
    return [known[image] for image in names]


def as_item(radiograph: Radiograph, class_names: Sequence[str] | None) -> dict[str, Any]:
    """The image as a data item, with a label unless there are no class names."""
    item: dict[str, Any] = {"image": str(radiograph.path), "patient": radiograph.patient}
    label = [int(name in radiograph.findings) for name in class_names or ()]
    return item | ({"label": label} if class_names else {})
