"""Chest X-ray phantoms on disk, in the layout of NIH's ChestX-ray14."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ...errors import InputError
from ...files import replacing
from ..nih import NO_FINDING, TEST_LIST, TRAINING_LIST
from .cxr import SHAPE, VERSION, phantom_cxr, pixel_mm
from .cxr_cases import Patient, Visit
from .files import write_all

__all__ = ["write_nih"]

# The header of the original, whose last columns are two each and which ends in a comma.
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
TEST_EVERY = 4  # patients 2, 6, 10, ... are the test section: it has its share in folders of any size


def write_nih(output_dir: Path, patients: int, seed: int = 0, shape: Sequence[int] = SHAPE, workers: int = 2) -> None:
    """Write patients 1 to `patients` as images/PPPPPPPP_III.png, Data_Entry_2017.csv and the two lists of images.

    A patient has 1 to 8 images, 2 on average. A quarter of the patients is in test_list.txt, the others are in
    train_val_list.txt. An image that is already there with the same parameters is kept; every file is complete or
    absent.

    Raises:
        InputError: for a count, shape or folder that cannot be used.
    """
    output_dir = Path(output_dir)
    check_request(output_dir, patients, shape, workers)
    shape = int(shape[0]), int(shape[1])
    people = [Patient(seed, index) for index in range(1, patients + 1)]
    write_all(partial(write_patient, output_dir, seed, shape), range(1, patients + 1), workers)
    visits = [Visit(person, number) for person in people for number in range(person.images)]
    write_text(output_dir / "Data_Entry_2017.csv", entries(visits, shape))
    for name, is_test in ((TRAINING_LIST, False), (TEST_LIST, True)):
        write_text(output_dir / name, [file_name(visit) for visit in visits if in_test(visit) == is_test])


def check_request(output_dir: Path, patients: int, shape: Sequence[int], workers: int) -> None:
    """Refuse what cannot be written, in one sentence."""
    if patients < 2 or workers < 1:
        raise InputError(
            f"patients is {patients} and workers is {workers}; give at least 2 patients, so that both lists have one, "
            "and 1 worker."
        )
    if not isinstance(shape, Sequence) or len(shape) != 2 or min(shape) < 32:
        raise InputError(f"shape is {shape}; give height and width in pixels, each at least 32.")
    if output_dir.exists() and not output_dir.is_dir():
        raise InputError(f"{output_dir} is a file; give a folder to write the images into.")


def file_name(visit: Visit) -> str:
    """NIH's name of an image."""
    return f"{visit.patient.key[1]:08d}_{visit.number:03d}.png"


def in_test(visit: Visit) -> bool:
    """Whether the patient belongs to the test section."""
    return visit.patient.key[1] % TEST_EVERY == 2


def entries(visits: Iterable[Visit], shape: Sequence[int]) -> list[str]:
    """The lines of Data_Entry_2017.csv."""
    return [HEADER, *(",".join(map(str, entry(visit, shape))) + "," for visit in visits)]


def entry(visit: Visit, shape: Sequence[int]) -> list[str | int | float]:
    """One row: name, findings, number of the follow-up, patient, age, sex, view, size in pixels, pixel in mm."""
    patient, spacing = visit.patient, round(pixel_mm(visit, shape), 3)
    findings = "|".join(visit.reported) or NO_FINDING
    who = [patient.key[1], patient.age + visit.number // 3, "F" if patient.female else "M"]
    view = "AP" if visit.portable else "PA"
    return [file_name(visit), findings, visit.number, *who, view, shape[1], shape[0], spacing, spacing]


def write_text(path: Path, lines: Sequence[str]) -> None:
    """Write lines of text, completely or not at all."""
    with replacing(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines))


def write_patient(output_dir: Path, seed: int, shape: tuple[int, int], index: int) -> None:
    """Write those images of one patient that are not there yet."""
    for number in range(Patient(seed, index).images):
        visit = Visit(Patient(seed, index), number)
        path = output_dir / "images" / file_name(visit)
        description = f"cxr phantom v{VERSION} seed {seed} patient {index} image {number}"
        if not is_same(path, description, shape):
            save_png(phantom_cxr(seed, index, number, shape)[0], description, path)


def is_same(path: Path, description: str, shape: tuple[int, int]) -> bool:
    """Whether a complete image exists with this description and shape."""
    try:
        with Image.open(path) as image:
            image.load()
            return image.info.get("Description") == description and image.size == shape[::-1]
    except (OSError, SyntaxError):  # missing; truncated, for which Pillow has both
        return False


def save_png(image: NDArray[np.uint8], description: str, path: Path) -> None:
    """Write (H, W) as 8-bit grey PNG that carries its description."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", description)
    with replacing(path) as beside:
        Image.fromarray(image).save(beside, format="png", pnginfo=info)
