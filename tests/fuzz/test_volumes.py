"""NIfTI files with any fault in header, voxels or compression."""

from __future__ import annotations

import gzip
import shutil
import struct
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from custom.data import VolumeCache
from custom.transforms import LoadAtSpacingd, LoadVolumed

from .harness import endures, fuzz
from .mutations import damaged

SHAPE = (6, 7, 8)
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e-5, 1e5, 1e30, 3e38, float("nan"), float("inf"), -float("inf"))
INTEGERS = (0, 1, -1, 2, 3, 4, 5, 7, 8, 348, 540, 32767, -32768)
TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 9999)
FIELDS = {  # name -> offset, format, values
    "sizeof_hdr": (0, "i", (0, 347, 348, 540, -1, 1543569408)),
    "dim_info": (39, "B", (0, 255)),
    "dim": (40, "8h", INTEGERS),
    "intent": (56, "3f", FLOATS),
    "intent_code": (68, "h", INTEGERS),
    "datatype": (70, "h", TYPES),
    "bitpix": (72, "h", INTEGERS),
    "pixdim": (76, "8f", FLOATS),
    "vox_offset": (108, "f", (*FLOATS, 348.0, 351.9, 352.0, 368.0, 1e9, -352.0)),
    "scaling": (112, "2f", FLOATS),
    "units": (123, "B", (0, 1, 2, 3, 8, 255)),
    "forms": (252, "2h", (0, 1, 2, 4, -1, 99)),
    "quaternion": (256, "6f", FLOATS),
    "srow": (280, "12f", FLOATS),
    "magic": (344, "4s", (b"n+1\0", b"ni1\0", b"n+2\0", b"\0\0\0\0", b"abcd")),
    "extension": (348, "4s", (b"\0\0\0\0", b"\1\0\0\0", b"\1\1\1\1")),
    "extension_size": (352, "2i", (0, 8, 16, -16, 17, 2**31 - 16, 2**31 - 1)),
}


def nifti(dtype: str = "<i2", kind: type = nibabel.Nifti1Image) -> bytes:
    """A whole file, 4 more bytes of it than its header."""
    voxels = np.random.default_rng(0).integers(0, 14, SHAPE).astype(dtype)
    image = kind(voxels, np.diag((1.0, 2.0, 3.0, 1.0)))
    image.set_qform(image.affine, 1)
    return image.to_bytes()


FILES = [nifti(), nifti("<u1"), nifti("<f4"), nifti("<f8"), nifti(kind=nibabel.Nifti2Image)]


@st.composite
def odd_header(draw: st.DrawFn) -> bytes:
    """A file with up to four odd values in its header."""
    content = bytearray(draw(st.sampled_from(FILES[:4])))
    for name in draw(st.lists(st.sampled_from(list(FIELDS)), min_size=1, max_size=4)):
        offset, form, values = FIELDS[name]
        count = len(struct.unpack(f"<{form}", bytes(struct.calcsize(f"<{form}"))))
        present = list(struct.unpack_from(f"<{form}", content, offset))
        for place in draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=3)):
            present[place] = draw(st.sampled_from(values))
        struct.pack_into(f"<{form}", content, offset, *present)
    return bytes(content)


def compressed(content: bytes) -> SearchStrategy[bytes]:
    """A gzip file of it, damaged."""
    whole = gzip.compress(content, 1, mtime=0)
    return st.one_of(
        damaged(whole), st.integers(0, len(whole)).map(lambda end: whole[:end]), st.just(whole * 2), st.just(content)
    )


FAULTS = {
    "odd headers": (300, odd_header(), ".nii"),
    "odd headers, compressed": (150, odd_header().map(gzip.compress), ".nii.gz"),
    "damaged files": (150, st.sampled_from(FILES).flatmap(damaged), ".nii"),
    "damaged compression": (150, st.sampled_from(FILES).flatmap(compressed), ".nii.gz"),
}


def check(volume: Any) -> None:
    """What is accepted is an image of numbers, somewhere in space."""
    assert volume.ndim == 4 and volume.numel() and volume.isfinite().all()
    assert np.isfinite(np.linalg.inv(volume.affine)).all()


class Readers:
    """Everything of the project that reads a volume."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.image, self.cache = folder / "good.nii", folder / "cache"
        self.image.write_bytes(FILES[0])

    def __call__(self, content: bytes, suffix: str) -> None:
        """As an image, whole, at another spacing and into the cache, and as a label."""
        file = self.folder / f"case_1{suffix}"
        file.write_bytes(content)
        image, both = {"image": str(file)}, {"image": str(self.image), "label": str(file)}
        endures(lambda: check(LoadVolumed("image")(image)["image"]))
        endures(lambda: check(LoadAtSpacingd("image", 1.5)(image)["image"]))
        endures(lambda: self.into_cache(image))
        endures(lambda: LoadAtSpacingd(["image", "label"], 1.5, num_classes=14)(both))

    def into_cache(self, case: dict[str, Any]) -> None:
        """Build an entry; it is complete or absent."""
        cache = VolumeCache(self.cache, [LoadAtSpacingd("image", 2.0)])
        try:
            cache.open(case)
        finally:
            left = list(self.cache.glob("*"))
            assert [path.suffix for path in left] == [""] * len(left), "a half-written entry"
            shutil.rmtree(self.cache, ignore_errors=True)


@pytest.fixture
def read(tmp_path: Path) -> Readers:
    return Readers(tmp_path)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_volume_is_read_or_refused_in_one_sentence(read: Readers, fault: str) -> None:
    inputs, strategy, suffix = FAULTS[fault]
    fuzz(inputs, strategy, lambda content: read(content, suffix))


def claiming(shape: tuple[int, ...], dtype: type = np.uint8, offset: float = 352) -> bytes:
    """A header of a file of this shape, and the 4 bytes after it."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+1", offset, 1
    header["srow_x"][0] = header["srow_y"][1] = header["srow_z"][2] = 1
    return header.binaryblock + b"\0\0\0\0"


def zeros(size: int) -> bytes:
    """So many MiB of zeros compressed, in parts."""
    return gzip.compress(bytes(2**26)) * (size // 64)


EXTENDED = claiming(SHAPE, offset=2e9)[:348] + struct.pack("<4B2i", 1, 0, 0, 0, 2**31 - 16, 6)
BOMBS = {
    "a header alone": (claiming((32767, 32767, 32767)), ".nii"),
    "a header alone, compressed": (gzip.compress(claiming((32767, 32767, 32767))), ".nii.gz"),
    "billions of voxels that are there": (gzip.compress(claiming((2048, 2048, 1024))) + zeros(4096), ".nii.gz"),
    "a slice of a billion voxels": (gzip.compress(claiming((32767, 32767, 1))) + zeros(1024), ".nii.gz"),
    "gigabytes before the voxels": (gzip.compress(claiming(SHAPE, offset=4e9)) + zeros(4096), ".nii.gz"),
    "an extension of gigabytes": (gzip.compress(EXTENDED) + zeros(4096), ".nii.gz"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path, bomb: str) -> None:
    content, suffix = BOMBS[bomb]
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(content)
    for load in (LoadVolumed("image"), LoadAtSpacingd("image", 1.5)):
        assert "bomb" in endures(lambda load=load: load({"image": str(path)}))


def test_what_follows_the_voxels_is_not_unpacked(read: Readers) -> None:
    read(gzip.compress(FILES[0]) + zeros(4096), ".nii.gz")
    whole = LoadVolumed("image")({"image": str(read.folder / "case_1.nii.gz")})["image"]
    assert whole.equal(LoadVolumed("image")({"image": str(read.image)})["image"])


def test_voxels_too_far_apart_for_their_difference_are_refused(tmp_path: Path) -> None:
    voxels = np.linspace(-3e38, 3e38, 336, dtype=np.float32).reshape(SHAPE)
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "case_1.nii")
    for load in (LoadVolumed("image"), LoadAtSpacingd("image", 1.5)):
        assert "too far apart" in endures(lambda load=load: load({"image": str(tmp_path / "case_1.nii")}))
