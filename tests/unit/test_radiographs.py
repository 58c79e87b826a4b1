"""Radiographs load from every kind of file to the same grey levels."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from custom.data import input_radiographs
from custom.errors import InputError, find_input_error
from custom.files import case_name
from custom.transforms import LoadRadiographd

LEVELS = (np.add.outer(np.arange(32) * 4, np.arange(32) * 4)).astype(np.uint8)  # 0 to 248, brighter to lower right


def load(path: Path, size: int = 32) -> np.ndarray:
    return np.asarray(LoadRadiographd("image", size)({"image": str(path)})["image"])[0]


def write_dicom(path: Path, pixels: np.ndarray, photometric: str = "MONOCHROME2", **tags: object) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, pydicom.uid.generate_uid()
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.astype(np.uint16).tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_grey_rgba_palette_and_16_bit_png_show_the_same(tmp_path: Path) -> None:
    grey = Image.fromarray(LEVELS)
    pictures = {"grey": grey, "rgb": grey.convert("RGB"), "palette": grey.convert("P")}
    transparent = grey.convert("RGBA")
    transparent.putalpha(7)
    pictures |= {"rgba": transparent, "deep": Image.fromarray(LEVELS.astype(np.uint16) * 16)}
    for name, picture in pictures.items():
        picture.save(tmp_path / f"{name}.png")
        found = load(tmp_path / f"{name}.png").astype(float)
        expected = LEVELS * (255 / 248) if name == "deep" else LEVELS  # 16 bits are stretched to the whole range
        assert np.abs(found - expected).max() <= 1, name


def test_dicom_is_bright_where_more_is_attenuated(tmp_path: Path) -> None:
    raw = LEVELS.astype(np.uint16) * 16
    plain = load(write_dicom(tmp_path / "two.dcm", raw)).astype(int)
    inverted = load(write_dicom(tmp_path / "one", 4095 - raw, "MONOCHROME1")).astype(int)
    assert np.abs(plain - LEVELS * (255 / 248)).max() <= 1
    assert np.abs(plain - inverted).max() <= 1


def test_the_window_of_dicom_is_what_is_stretched(tmp_path: Path) -> None:
    raw = LEVELS.astype(np.uint16) * 16  # 0 to 3968
    tables = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 4000, "WindowWidth": 8000}
    wide = load(write_dicom(tmp_path / "wide.dcm", raw, **tables)).astype(float)
    assert np.abs(wide - (raw * 2.0 - 100).clip(0) / 8000 * 255).max() <= 1
    narrow = load(write_dicom(tmp_path / "narrow.dcm", raw, WindowCenter=[2000, 5], WindowWidth=[100, 5]))
    assert (narrow[raw <= 1950] == 0).all() and (narrow[raw >= 2050] == 255).all()
    assert np.abs(narrow[raw == 1984].astype(float) - 0.34 * 255).max() <= 1


def test_padding_of_dicom_is_black_and_does_not_count(tmp_path: Path) -> None:
    raw = LEVELS.astype(np.uint16) + 3000
    raw[:3] = 0
    shown = load(write_dicom(tmp_path / "padded.dcm", raw, PixelPaddingValue=0))
    assert (shown[:3] == 0).all() and shown[3:].min() == 0 and shown[3:].max() == 255


def test_damaged_dicom_is_one_error(tmp_path: Path) -> None:
    whole = bytearray(write_dicom(tmp_path / "whole.dcm", LEVELS.astype(np.uint16)).read_bytes())
    state = np.random.default_rng(0)
    for index in range(60):
        damaged = whole[: state.integers(200, len(whole))] if index % 2 else bytearray(whole)
        for place in state.integers(132, len(damaged), 8):
            damaged[place] = state.integers(256)
        path = tmp_path / f"{index}.dcm"
        path.write_bytes(damaged)
        try:
            load(path)
        except RuntimeError as error:  # how MONAI wraps it
            assert find_input_error(error) is not None
        except InputError:
            pass


def test_the_shorter_side_is_resized_and_the_middle_kept(tmp_path: Path) -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(load(tmp_path / "wide.png", 10), np.full((10, 10), 200, np.uint8))


@pytest.mark.parametrize("kind", ["missing", "text", "truncated", "constant", "frames"])
def test_what_is_no_image_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.png"
    if kind == "text":
        path.write_text("no image")
    elif kind == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "constant":
        Image.fromarray(np.full((8, 8), 9, np.uint8)).save(path)
    elif kind == "frames":
        write_dicom(path, np.stack([LEVELS, LEVELS]))
    with pytest.raises(Exception, match=kind):
        load(path)
    with pytest.raises(InputError):
        LoadRadiographd("image", 32)({"image": str(path)})


def test_inputs_are_a_file_or_the_images_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", "c.jpg", "a_relevance.png"):
        Image.fromarray(LEVELS).save(tmp_path / name)
    write_dicom(tmp_path / "1.2.840.55", LEVELS)
    (tmp_path / "notes.txt").write_text("not an image")
    assert [Path(item["image"]).name for item in input_radiographs(tmp_path)] == [
        "1.2.840.55",
        "a.PNG",
        "b.png",
        "c.jpg",
    ]
    assert [case_name(name) for name in ("a.PNG", "b.dcm", "c.nii.gz", "d", "e.1.png")] == ["a", "b", "c", "d", "e.1"]
    done = tmp_path / "out"
    done.mkdir()
    (done / "a_findings.json").write_text("{}")
    assert len(input_radiographs(tmp_path, skip_done_in=done)) == 3
    (tmp_path / "b.jpg").write_bytes((tmp_path / "c.jpg").read_bytes())
    with pytest.raises(InputError, match="b with two endings"):
        input_radiographs(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        input_radiographs(tmp_path / "nowhere")
