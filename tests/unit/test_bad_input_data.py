"""Every fault in the data a user can cause ends in an InputError: one sentence that names the file."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.transforms import CropForegroundd, ScaleIntensityRanged

from custom.data import CropDataset, VolumeCache, datalist, input_images
from custom.errors import InputError
from custom.transforms import LoadAtSpacingd, LoadVolumed

SHAPE = (6, 7, 8)
PIXDIM_OFFSET, VOX_OFFSET, FORM_CODES_OFFSET = 80, 108, 252


def volume(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    nibabel.save(image, path)
    return path


def assert_one_sentence(error: InputError, name: str) -> None:
    message = str(error)
    assert type(error) is InputError
    assert name in message
    assert "\n" not in message and ". " not in message and not message.endswith(".")


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def truncated(path: Path) -> None:
    write(path, volume((32, 32, 32)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def not_nifti(path: Path) -> None:
    path.write_text("no image at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def two_dimensional(path: Path) -> None:
    write(path, volume((6, 7)))


def four_dimensional(path: Path) -> None:
    write(path, volume((*SHAPE, 2)))


def colour(path: Path) -> None:
    write(path, np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]))


def with_nan(path: Path) -> None:
    array = volume()
    array[0, 0, :3] = np.nan
    write(path, array)


def with_infinity(path: Path) -> None:
    array = volume()
    array[1, 1, 1] = np.inf
    write(path, array)


def constant(path: Path) -> None:
    write(path, np.full(SHAPE, -1024, dtype=np.int16))


def header_fault(*entries: tuple[int, str, tuple[float, ...]]) -> Callable[[Path], None]:
    def fault(path: Path) -> None:
        content = bytearray(write(path.with_name("plain.nii"), volume()).read_bytes())
        for offset, form, values in entries:
            struct.pack_into(f"<{form}", content, offset, *values)
        write_bytes(path, bytes(content))

    return fault


def affine_fault(*diagonal: float) -> Callable[[Path], None]:
    def fault(path: Path) -> None:
        image = nibabel.Nifti1Image(volume(), np.eye(4))
        image.header["sform_code"] = 2
        for row, value in zip(("srow_x", "srow_y", "srow_z"), np.diag((*diagonal, 1.0))[:3], strict=True):
            image.header[row] = value
        image.header["magic"], image.header["vox_offset"] = b"n+1", 352
        write_bytes(path, image.header.binaryblock + b"\0" * 4 + volume().tobytes(order="F"))

    return fault


IMAGE_FAULTS: dict[str, Callable[[Path], None]] = {
    "missing": missing,
    "truncated": truncated,
    "not NIfTI": not_nifti,
    "empty file": empty,
    "2D": two_dimensional,
    "4D": four_dimensional,
    "colour": colour,
    "NaN": with_nan,
    "infinite": with_infinity,
    "constant": constant,
    "zero spacing": header_fault((PIXDIM_OFFSET, "3f", (1, 0, 1)), (FORM_CODES_OFFSET, "2h", (0, 0))),
    "voxels before the file": header_fault((VOX_OFFSET, "f", (-1,))),
    "singular affine": affine_fault(1, 0, 1),
    "NaN affine": affine_fault(1, float("nan"), 1),
}


LOADERS = {"as it is": LoadVolumed, "at another spacing": partial(LoadAtSpacingd, pixdim=1.5)}


def refusal(load: Callable[..., object], case: dict[str, str], **options: object) -> str:
    with pytest.raises(InputError) as caught:
        load(list(case), **options)(case)
    assert_one_sentence(caught.value, Path(list(case.values())[-1]).name)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_a_faulty_image_is_refused_with_the_same_sentence_at_any_spacing(
    tmp_path: Path, fault: str, suffix: str
) -> None:
    path = tmp_path / f"case_1{suffix}"
    IMAGE_FAULTS[fault](path)
    assert len({refusal(load, {"image": str(path)}) for load in LOADERS.values()}) == 1


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 3), (*SHAPE, 1)])
def test_a_wrong_channel_count_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write(tmp_path / "case_1.nii.gz", volume(shape))
    for load in LOADERS.values():
        assert "in_channels 4" in refusal(load, {"image": str(path)}, in_channels=4)


LABEL_FAULTS = {
    "another shape": (np.zeros((6, 7, 9), dtype=np.uint8), np.eye(4)),
    "another affine": (np.zeros(SHAPE, dtype=np.uint8), np.diag([1, 1, 1.1, 1])),
    "an id beyond the classes": (np.full(SHAPE, 14, dtype=np.uint8), np.eye(4)),
    "a negative id": (np.full(SHAPE, -1, dtype=np.int16), np.eye(4)),
    "a fraction": (np.full(SHAPE, 0.5, dtype=np.float32), np.eye(4)),
    "NaN": (np.full(SHAPE, np.nan, dtype=np.float32), np.eye(4)),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_a_faulty_label_is_refused_with_the_same_sentence_at_any_spacing(tmp_path: Path, fault: str) -> None:
    case = {
        "image": str(write(tmp_path / "image_1.nii.gz", volume())),
        "label": str(write(tmp_path / "label_1.nii.gz", *LABEL_FAULTS[fault])),
    }
    assert len({refusal(load, case, num_classes=14) for load in LOADERS.values()}) == 1


def btcv(folder: Path, labelled: bool = True) -> Path:
    write(folder / "imagesTr" / "img0005.nii.gz", volume())
    if labelled:
        write(folder / "labelsTr" / "label0005.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    return folder


def msd(folder: Path, content: str) -> Path:
    (folder / "dataset.json").write_text(content)
    return folder


def split_file(folder: Path, lists: object) -> str:
    (folder / "my.json").write_text(json.dumps(lists))
    return "my.json"


ITEM = {"image": "imagesTr/gone.nii.gz", "label": "labelsTr/gone.nii.gz"}
DATALIST_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing folder": (lambda d: datalist(d / "nowhere"), "nowhere"),
    "empty folder": (lambda d: datalist(d, with_labels=False), "{folder}"),
    "empty imagesTr": (lambda d: (d / "imagesTr").mkdir() or datalist(d), "imagesTr"),
    "plain folder with labels": (lambda d: write(d / "a.nii", volume()) and datalist(d), "a.nii"),
    "case without label": (lambda d: datalist(btcv(d, labelled=False)), "img0005.nii.gz"),
    "no case left in a section": (lambda d: datalist(btcv(d), "test"), "'transunet'"),
    "unknown section": (lambda d: datalist(btcv(d), "train"), "'train'"),
    "unknown split": (lambda d: datalist(btcv(d), split="random"), "'random'"),
    "fold beyond the folds": (lambda d: datalist(btcv(d), split="5/5"), "'5/5'"),
    "more folds than cases": (lambda d: datalist(btcv(d), split="0/2"), "'0/2'"),
    "no folds": (lambda d: datalist(btcv(d), split="0/0"), "'0/0'"),
    "missing split file": (lambda d: datalist(btcv(d), split="gone.json"), "gone.json"),
    "split file without lists": (lambda d: datalist(btcv(d), split=split_file(d, {"a": 1})), "my.json"),
    "list naming an unknown case": (lambda d: datalist(btcv(d), split=split_file(d, {"training": ["0099"]})), "0099"),
    "list naming a missing file": (lambda d: datalist(btcv(d), split=split_file(d, {"training": [ITEM]})), "gone"),
    "damaged dataset.json": (lambda d: datalist(msd(d, "{")), "dataset.json"),
    "dataset.json naming a missing file": (
        lambda d: datalist(msd(d, json.dumps({"training": [ITEM]})), split="all"),
        "gone.nii.gz",
    ),
    "more validation than training cases": (lambda d: datalist(btcv(d), validation_cases=3), "validation_cases 3"),
    "input that does not exist": (lambda d: input_images(d / "gone.nii.gz"), "gone.nii.gz"),
    "input of another format": (lambda d: (d / "a.dcm").touch() or input_images(d / "a.dcm"), "a.dcm"),
    "input folder without images": (lambda d: input_images(d), "{folder}"),
}


@pytest.mark.parametrize("fault", DATALIST_FAULTS)
def test_a_faulty_dataset_is_refused(tmp_path: Path, fault: str) -> None:
    act, name = DATALIST_FAULTS[fault]
    with pytest.raises(InputError) as caught:
        act(tmp_path)
    assert_one_sentence(caught.value, name.format(folder=tmp_path))


@pytest.mark.parametrize("fault", ["truncated", "NaN", "constant"])
def test_the_cache_passes_on_the_sentence_without_leaving_files(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "case_1.nii.gz"
    IMAGE_FAULTS[fault](path)
    with pytest.raises(InputError) as caught:
        CropDataset([{"image": str(path)}], tmp_path / "cache", [LoadVolumed("image")], (4, 4, 4))
    assert_one_sentence(caught.value, path.name)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("crop_foreground", [False, True])
def test_an_image_without_voxels_in_the_intensity_range_is_refused(tmp_path: Path, crop_foreground: bool) -> None:
    path = write(tmp_path / "case_1.nii.gz", volume() - 1000)
    transforms = [LoadVolumed("image"), ScaleIntensityRanged("image", -175, 250, 0, 1, clip=True)]
    if crop_foreground:
        transforms.append(CropForegroundd("image", "image"))
    with pytest.raises(InputError, match="no foreground") as caught:
        VolumeCache(tmp_path / "cache", transforms).open({"image": str(path)})
    assert_one_sentence(caught.value, path.name)
