"""Brain MR phantoms on disk: the layouts of MSD Task01 and BraTS, and what happens to cases that are already there."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.data.phantoms.mr import generate_mr, write_brats, write_msd
from custom.errors import InputError

TINY = {"shape": (20, 24, 20), "spacing": (8.0, 8.0, 8.0)}
LAYOUTS = {"msd": write_msd, "2021": partial(write_brats, year=2021), "2023": partial(write_brats, year=2023)}


def test_cases_lie_in_the_layout_of_msd(tmp_path: Path) -> None:
    write_msd(tmp_path, 2, workers=1, **TINY)
    record = json.loads((tmp_path / "dataset.json").read_text())
    assert record["modality"] == {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    assert record["numTraining"] == 2 and record["test"] == []
    assert record["training"][0] == {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
    for number, entry in enumerate(record["training"], start=1):
        image, label = (nib.load(tmp_path / entry[key]) for key in ("image", "label"))
        assert image.shape == (*TINY["shape"], 4) and label.shape == TINY["shape"]
        assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        assert image.header.get_zooms()[:3] == TINY["spacing"]
        assert np.array_equal(image.affine, label.affine)
        expected = generate_mr(0, number, **TINY)
        assert np.array_equal(np.asarray(image.dataobj), expected[0])
        assert np.array_equal(np.asarray(label.dataobj), expected[1])


@pytest.mark.parametrize(
    ("year", "stem", "suffixes", "values"),
    [
        (2021, "BraTS2021_00001/BraTS2021_00001_", ("flair", "t1", "t1ce", "t2"), (0, 2, 1, 4)),
        (2023, "BraTS-GLI-00001-000/BraTS-GLI-00001-000-", ("t2f", "t1n", "t1c", "t2w"), (0, 2, 1, 3)),
    ],
)
def test_cases_lie_in_the_layout_of_brats(tmp_path: Path, year: int, stem: str, suffixes: tuple, values: tuple) -> None:
    write_brats(tmp_path, 1, workers=1, year=year, **TINY)
    image, label = generate_mr(0, 1, **TINY)
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 5
    for channel, suffix in enumerate(suffixes):
        found = nib.load(tmp_path / f"{stem}{suffix}.nii.gz")
        assert np.array_equal(np.asarray(found.dataobj), image[..., channel])
    labels = np.asarray(nib.load(tmp_path / f"{stem}seg.nii.gz").dataobj)
    for ours, theirs in enumerate(values):
        assert np.array_equal(label == ours, labels == theirs)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_case_is_kept_until_its_parameters_change(tmp_path: Path, write: Callable) -> None:
    write(tmp_path, 1, workers=1, **TINY)
    files = sorted(tmp_path.rglob("*.nii.gz"))
    before = [path.stat().st_mtime_ns for path in files]
    write(tmp_path, 2, workers=1, **TINY)
    assert [path.stat().st_mtime_ns for path in files] == before
    content = [path.read_bytes() for path in files]
    write(tmp_path, 1, seed=1, workers=1, **TINY)
    assert all(path.read_bytes() != old for path, old in zip(files, content, strict=True))


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_case_with_a_missing_or_truncated_file_is_written_again(tmp_path: Path, write: Callable) -> None:
    write(tmp_path, 1, workers=1, **TINY)
    files = sorted(tmp_path.rglob("*.nii.gz"))
    content = [path.read_bytes() for path in files]
    files[0].write_bytes(content[0][:40])
    write(tmp_path, 1, workers=1, **TINY)
    files[-1].unlink()
    write(tmp_path, 1, workers=1, **TINY)
    assert [path.read_bytes() for path in files] == content


def test_worker_processes_write_the_same_files(tmp_path: Path) -> None:
    write_msd(tmp_path / "one", 2, workers=1, **TINY)
    write_msd(tmp_path / "two", 2, workers=2, **TINY)
    for path in (tmp_path / "one").rglob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


@pytest.mark.parametrize(
    ("write", "change", "word"),
    [
        (write_msd, {"cases": 0}, "cases"),
        (write_msd, {"shape": (8, 28, 24)}, "shape"),
        (write_brats, {"spacing": (1.0, 0.0, 1.0)}, "spacing"),
        (write_brats, {"year": 2020}, "2021 and 2023"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(tmp_path: Path, write: Callable, change: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        write(tmp_path, **({"cases": 1, "workers": 1, **TINY} | change))


def test_the_command_line_knows_three_layouts(tmp_path: Path) -> None:
    from scripts.phantoms import mr

    for layout, name in (
        ("msd", "dataset.json"),
        ("brats2021", "BraTS2021_00001"),
        ("brats2023", "BraTS-GLI-00001-000"),
    ):
        mr(str(tmp_path / layout), cases=1, workers=1, layout=layout, **TINY)
        assert (tmp_path / layout / name).exists()
    with pytest.raises(InputError, match="choose one of msd, brats2021, brats2023"):
        mr(str(tmp_path), layout="nifti")
