"""Training, validation and test sections of chest X-rays, divided by patient, never by image."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import case_name
from .layouts import SECTIONS, existing_folder
from .nih import FINDINGS, TEST_LIST, Listing, Radiograph, entry_file, named, read_listing
from .radiographs import radiograph_files

logger = logging.getLogger(__name__)


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
        dataset_dir: the folder, or several, whose images are put together; a patient is on the same side in all, and
            one that an official list names is where that list says.
        section: training, validation or test.
        class_names: the findings, in the order of the label's channels.
        validation_fraction: share of the patients outside test that becomes the validation section. With 0 the
            validation section IS the test section, as in the reference, so what is chosen on it has seen the test.
        test_fraction: share of the patients that becomes the test section, of those that no official list names.
        split_seed: of the choice of those patients, which depends on nothing else but their IDs.
        with_labels: False for images without Data_Entry_2017.csv, all of which are in every section.

    Returns:
        items {"image": path, "patient": ID, "label": 0 or 1 for each class name}; "label" only `with_labels`.

    Raises:
        InputError: a missing folder, file or column, an image that a list names but no folder holds or no row
            describes, an unknown or missing finding, a patient on both sides of the official lists, or an empty
            section.
    """
    if section not in SECTIONS:
        raise InputError(f"section {section!r} is unknown; use one of {', '.join(SECTIONS)}")
    paths = [dataset_dir] if isinstance(dataset_dir, str | Path) else list(dataset_dir)
    folders = [existing_folder(path) for path in paths]
    if with_labels or any(map(entry_file, folders)):
        listings = [read_listing(folder, class_names) for folder in folders]
        parts = patient_sections(listings, {"validation": validation_fraction, "test": test_fraction}, split_seed)
        items = [as_item(radiograph, class_names if with_labels else None) for radiograph in parts[section]]
    else:
        items = [item for folder in folders for item in plain_items(folder, section)]
    if not items:
        raise InputError(
            f"section {section!r} of {', '.join(map(str, folders))} is empty; raise validation_fraction or "
            "test_fraction, or give more patients"
        )
    return items


def plain_items(folder: Path, section: str) -> list[dict[str, Any]]:
    """The images of a folder without a table."""
    if entry_file(folder.parent):
        raise InputError(
            f"{folder} holds test images as well as training images; set dataset_dir to {folder.parent}, whose "
            "lists tell them apart"
        )
    if section != "training":
        logger.warning(f"{folder} has no division into sections; its {section} images are the training images")
    return [{"image": str(path), "patient": case_name(path)} for path in radiograph_files(folder)]


def patient_sections(
    listings: Sequence[Listing], fractions: Mapping[str, float], seed: int
) -> dict[str, list[Radiograph]]:
    """Divide the images of all folders by patient: as official lists say, else by `share`."""
    official = [listing for listing in listings if listing.test]
    tested = {radiograph.patient for listing in official for radiograph in listing.test}
    kept = {radiograph.patient for listing in official for radiograph in listing.rest}
    both = sorted(tested & kept)
    if both:
        raise InputError(
            f"{len(both)} patients are in a {TEST_LIST} and among the training images: {named(both)}; remove the "
            "images of each from one of them"
        )
    parts: dict[str, list[Radiograph]] = {name: [] for name in SECTIONS}
    for radiograph in (image for listing in listings for image in (*listing.rest, *listing.test)):
        patient = radiograph.patient
        drawn = patient not in kept and share(patient, "test", seed) < fractions["test"]
        if patient in tested or drawn:
            parts["test"].append(radiograph)
        else:
            held_out = share(patient, "validation", seed) < fractions["validation"]
            parts["validation" if held_out else "training"].append(radiograph)
    if not fractions["validation"]:
        logger.warning("validation images are the test images; what is chosen on them has seen them")
        parts["validation"] = parts["test"]
    return {name: sorted(members, key=lambda image: (image.path.name, image.path)) for name, members in parts.items()}


def share(patient: str, purpose: str, seed: int) -> float:
    """A number from 0 to 1 that belongs to a patient: the same in every folder and in every run."""
    digest = hashlib.sha256(f"{seed} {purpose} {patient}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def as_item(radiograph: Radiograph, class_names: Sequence[str] | None) -> dict[str, Any]:
    """The image as a data item, with a label unless there are no class names."""
    item: dict[str, Any] = {"image": str(radiograph.path), "patient": radiograph.patient}
    label = [int(name in radiograph.findings) for name in class_names or ()]
    return item | ({"label": label} if class_names else {})
