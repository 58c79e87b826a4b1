"""PNG, JPEG and DICOM files with any fault."""

from __future__ import annotations

import io
import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import reject
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from custom.data import ImageDataset
from custom.transforms import LoadRadiographd

from .harness import endures, fuzz
from .mutations import damaged

SIZE = (24, 20)
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
SIZES = (0, 1, 20, 2**15, 2**16, 2**28, 2**31 - 1, 2**32 - 1)
TAGS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel", "PixelRepresentation")
TEXTS = ("PhotometricInterpretation", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept")
ODD_TEXTS = ("", "0", "-1", "nan", "inf", "1e400", "x", "1\\2", "RGB", "MONOCHROME1", "PALETTE COLOR", "YBR_FULL")
ODD_NUMBERS = (0, 1, 2, 3, 7, 8, 12, 16, 32, 64, 20, 24, 4096, 65535)


def levels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8)


def encoded(mode: str, form: str = "PNG") -> bytes:
    """An image file in memory."""
    file = io.BytesIO()
    image = Image.fromarray(levels().astype(np.uint16) * 9) if mode == "I;16" else Image.fromarray(levels())
    (image if mode == "I;16" else image.convert(mode)).save(file, form)
    return file.getvalue()


def dicom() -> FileDataset:
    """A radiograph as a workstation exports it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = "1.2.3", ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = SIZE
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.SamplesPerPixel, dataset.PixelRepresentation, dataset.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope, dataset.RescaleIntercept = 900, 800, 1, 0
    dataset.PixelData = (levels().astype(np.uint16) * 8).tobytes()
    return dataset


def written(dataset: FileDataset) -> bytes:
    """A DICOM file in memory."""
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@st.composite
def odd_dicom(draw: st.DrawFn) -> bytes:
    """A DICOM file with odd values that are written as they are."""
    dataset = dicom()
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")
        for name in draw(
            st.lists(st.sampled_from((*TAGS, *TEXTS, "NumberOfFrames", "PixelData")), min_size=1, max_size=3)
        ):
            if name in TAGS:
                setattr(dataset, name, draw(st.sampled_from(ODD_NUMBERS)))
            elif name == "PixelData":
                dataset.PixelData = draw(st.binary(max_size=16)) * 2
            else:
                tag = pydicom.tag.Tag(name)
                text = draw(st.sampled_from(ODD_TEXTS)).encode()
                dataset[tag] = pydicom.dataelem.RawDataElement(
                    tag, pydicom.datadict.dictionary_VR(tag), len(text), text, 0, False, True
                )
        try:
            return written(dataset)
        except (ValueError, OverflowError, AttributeError):
            reject()  # what pydicom does not write


@st.composite
def odd_png(draw: st.DrawFn) -> bytes:
    """A PNG that claims another size or kind of pixels, with the checksum that belongs to it."""
    content = encoded(draw(st.sampled_from(MODES)))
    width, height, *rest = struct.unpack_from(">IIBBBBB", content, 16)
    place = draw(st.integers(0, 6))
    fields = [width, height, *rest]
    fields[place] = draw(st.sampled_from(SIZES) if place < 2 else st.integers(0, 255))
    header = b"IHDR" + struct.pack(">IIBBBBB", *fields)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]


PICTURES = [*map(encoded, MODES), encoded("L", "JPEG"), encoded("RGB", "JPEG"), encoded("L", "GIF")]
FAULTS = {
    "damaged pictures": (300, st.sampled_from(PICTURES).flatmap(damaged)),
    "odd PNG headers": (100, odd_png()),
    "damaged DICOM": (150, damaged(written(dicom()))),
    "odd DICOM": (150, odd_dicom()),
}


def read(content: bytes, folder: Path) -> None:
    """As an image of the folder that a network is applied to, and into the cache, which is complete or absent."""
    file, cache = folder / "case_1.png", folder / "cache"
    file.write_bytes(content)
    items = [{"image": str(file), "patient": "1"}]
    endures(lambda: check(LoadRadiographd("image", 16)(items[0])["image"]))
    try:
        ImageDataset(items, cache, [LoadRadiographd("image", 16)], [])
    finally:
        left = list(cache.glob("*")) + list(cache.glob(".*"))
        assert [path.suffix for path in left] == [".npy"] * len(left), "a half-written file"
        shutil.rmtree(cache, ignore_errors=True)


def check(image: Any) -> None:
    """What is accepted is an image."""
    assert tuple(image.shape) == (1, 16, 16)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_radiograph_is_read_or_refused_in_one_sentence(tmp_path: Path, fault: str) -> None:
    inputs, strategy = FAULTS[fault]
    fuzz(inputs, strategy, lambda content: read(content, tmp_path))


@pytest.mark.parametrize("side", [10_000, 12_000, 60_000])
@pytest.mark.parametrize("mode", MODES)
def test_an_image_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path: Path, mode: str, side: int) -> None:
    content = encoded(mode)
    header = b"IHDR" + struct.pack(">II", side, side) + content[24:29]
    path = tmp_path / "bomb.png"
    path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    assert "pixels" in endures(lambda: LoadRadiographd("image", 16)({"image": str(path)}))


def test_what_calls_itself_a_picture_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL would give PostScript, which is a program, to Ghostscript."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("started a program"))
    (tmp_path / "case.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    assert "is damaged or no PNG" in endures(
        lambda: LoadRadiographd("image", 16)({"image": str(tmp_path / "case.png")})
    )


def test_dicom_that_unpacks_to_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    dataset, path = dicom(), tmp_path / "bomb"
    dataset.Rows = dataset.Columns = 65535
    path.write_bytes(written(dataset))
    assert "65535 x 65535 pixels" in endures(lambda: LoadRadiographd("image", 16)({"image": str(path)}))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path.write_bytes(written(dataset) + bytes(2**20))
    assert "is deflated DICOM" in endures(lambda: LoadRadiographd("image", 16)({"image": str(path)}))
