"""ChestX-ray14 in the files of its publisher, the NIH Clinical Center (Wang et al., CVPR 2017).

A folder holds `images/`, or `images_001/images/` to `images_012/images/` as they are downloaded, `Data_Entry_2017.csv`
and the official `train_val_list.txt` and `test_list.txt`.
"""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..files import read_text

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


@dataclass(frozen=True)
class Listing:
    """The images of a folder: those of its test list, if it has one, and all others that are to be used."""

    rest: tuple[Radiograph, ...]
    test: tuple[Radiograph, ...]


def entry_file(folder: Path) -> Path | None:
    """Data_Entry_2017.csv, under this or the name of a later release; None where there is none."""
    found = sorted(folder.glob("Data_Entry*.csv"))
    if len(found) > 1:
        raise InputError(f"{folder} holds {found[0].name} and {found[1].name}; keep one of them")
    return found[0] if found else None


def read_listing(folder: Path, class_names: Sequence[str]) -> Listing:
    """The images of `folder` that its lists name, or all that its table describes."""
    known = read_entries(folder, class_names)
    test = listed(folder, TEST_LIST, known) if (folder / TEST_LIST).is_file() else []
    chosen = {radiograph.patient for radiograph in test}
    others = [radiograph for radiograph in known.values() if radiograph.patient not in chosen]
    rest = listed(folder, TRAINING_LIST, known) if (folder / TRAINING_LIST).is_file() else others
    return Listing(tuple(rest), tuple(test))


def read_entries(folder: Path, class_names: Sequence[str]) -> dict[str, Radiograph]:
    """The rows of Data_Entry_2017.csv whose images exist, by file name."""
    file = entry_file(folder)
    if file is None:
        raise InputError(
            f"{folder} holds no Data_Entry_2017.csv; set dataset_dir to the folder that holds it, or, to pre-train on "
            "images alone, probe_interval to 0"
        )
    files = image_files(folder)
    try:
        table = csv.DictReader(io.StringIO(read_text(file)))
        rows = list(table)
    except csv.Error as error:
        raise InputError(f"{file} cannot be read as a table ({error}); use NIH's file") from error
    missing = [column for column in COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise InputError(f"{file} has no column {missing[0]!r}; use NIH's file, or name its columns so")
    entries = [(row["Image Index"], read_row(row, class_names, file)) for row in rows]
    twice = [name for name, count in Counter(name for name, _ in entries).items() if count > 1]
    if twice:
        raise InputError(f"{file} describes {named(twice)} twice; remove one of the rows")
    found = {name: Radiograph(files[name], *row) for name, row in entries if name in files}
    if not found:
        raise InputError(f"none of the {len(entries)} images of {file} is beside it; unpack the images there")
    if len(found) < len(entries):
        logger.info(f"{len(entries) - len(found)} of the {len(entries)} images that {file} describes are not there")
    return found


def read_row(row: Mapping[str, str | None], class_names: Sequence[str], file: Path) -> tuple[str, tuple[str, ...]]:
    """Patient, without leading zeros, and findings of a row; none for "No Finding"."""
    name, text, patient = ((row[column] or "").strip() for column in COLUMNS)
    if not (name and text and patient):
        raise InputError(f"{file} has a row without image, findings or patient ({name or 'no name'}); complete it")
    findings = tuple(part.strip() for part in text.split("|") if part.strip() != NO_FINDING)
    unknown = [finding for finding in findings if finding not in class_names]
    if unknown:
        raise InputError(
            f"{file} gives {name} the finding {unknown[0]!r}, which is none of {', '.join(class_names)}; correct it "
            "or set class_names"
        )
    return patient.lstrip("0") or "0", findings


def image_files(folder: Path) -> dict[str, Path]:
    """File name -> path of everything in images/ and images_*/images/."""
    places = [place for place in (folder / "images", *sorted(folder.glob("images_*/images"))) if place.is_dir()]
    if not places:
        raise InputError(f"{folder} holds neither images/ nor images_001/images/; unpack NIH's archives there")
    files: dict[str, Path] = {}
    for path in (path for place in places for path in place.iterdir()):
        if path.name in files:
            raise InputError(f"{path} and {files[path.name]} have the same name; remove one of them")
        files[path.name] = path
    return files


def listed(folder: Path, name: str, known: Mapping[str, Radiograph]) -> list[Radiograph]:
    """The images that an official list names, each once."""
    lines = read_text(folder / name).splitlines()
    names = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    lost = [image for image in names if image not in known]
    if lost:
        files = image_files(folder)
        reason = "no row of Data_Entry_2017.csv describes that" if lost[0] in files else "no such file is there"
        raise InputError(f"{folder / name} names {named(lost)}, but {reason}; unpack all archives, or shorten the list")
    return [known[image] for image in names]


def named(names: Sequence[str], most: int = 10) -> str:
    """Names for an error, the first ten of many."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
