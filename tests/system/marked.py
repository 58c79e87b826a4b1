"""Images that name a patient wherever their formats can, in a folder that does too, and a search for those names."""

from __future__ import annotations

import base64
import gzip
import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from nibabel.nifti1 import Nifti1Extension
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from custom.files import NIFTI_SUFFIXES

PATIENT = "DOE^JANE"
FOLDER = "of_doe_jane"
MARKS = {"PatientName": PATIENT, "PatientID": "ID-JD-4711", "InstitutionName": "ST ELSEWHERE"}
MARKS |= {"StudyDescription": "CHEST OF MRS DOE", "PatientComments": "mother of DOE^JOHN"}
FIELDS = {"descrip": 80, "aux_file": 24, "intent_name": 16, "db_name": 18}  # of a NIfTI header, with their lengths
EMBEDDED = re.compile(rb"base64,([A-Za-z0-9+/=]+)")


def mark(folder: Path) -> None:
    """Put the marks into all NIfTI files, and make all PNG radiographs DICOM, tables and lists included."""
    for path in sorted(folder.rglob("*")):
        if path.name.endswith(NIFTI_SUFFIXES):
            mark_nifti(path)
        elif path.suffix == ".png":
            write_dicom(path)
        elif path.suffix in (".csv", ".txt"):
            path.write_text(path.read_text().replace(".png", ".dcm"))


def mark_nifti(path: Path) -> None:
    """Every text of the header, and an extension of each kind that holds text."""
    image = nibabel.load(path)
    copy = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    for field, length in FIELDS.items():
        copy.header[field] = PATIENT.encode()[:length]
    for code in (4, 6, 12):  # AFNI, comment, workflow
        copy.header.extensions.append(Nifti1Extension(code, PATIENT.encode()))
    nibabel.save(copy, path)


def write_dicom(picture: Path) -> None:
    """A PNG as DICOM with all marks, in its place."""
    with Image.open(picture) as image:
        levels = np.asarray(image.convert("L"))
    picture.unlink()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, generate_uid()
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = levels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 8, 7, 0
    dataset.PixelData = levels.astype(np.uint16).tobytes()
    for name, value in MARKS.items():
        setattr(dataset, name, value)
    dataset.save_as(picture.with_suffix(".dcm"), enforce_file_format=True)


def marks_in(folder: Path) -> dict[str, list[str]]:
    """File below `folder` -> the marks in its name and content, FOLDER among them; only files that have any."""
    words = {name: re.compile(re.escape(name.encode())) for name in (*MARKS.values(), FOLDER)}
    found = {}
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        name = str(path.relative_to(folder))
        parts = [name.encode(), *layers(path.read_bytes())]
        if hits := [word for word, pattern in words.items() if any(map(pattern.search, parts))]:
            found[name] = hits
    return found


def layers(content: bytes) -> Iterator[bytes]:
    """What a file holds, and what is compressed, zipped, written as text of a picture or embedded in it."""
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield from layers(gzip.decompress(content))
    elif content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(BytesIO(content)) as file:
            for name in file.namelist():
                yield name.encode()
                yield from layers(file.read(name))
    elif content.startswith(b"\x89PNG"):
        with Image.open(BytesIO(content)) as image:
            image.load()  # texts may follow the pixels
            yield repr(image.info).encode()
    for embedded in EMBEDDED.findall(content):
        yield from layers(base64.b64decode(embedded))


def marked_dicom(path: Path) -> bool:
    """Whether a DICOM file bears all marks."""
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    return all(str(dataset.get(name)) == value for name, value in MARKS.items())
