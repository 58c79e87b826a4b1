"""Chest X-ray phantoms on disk: the layout of ChestX-ray14, and what happens to images that are already there."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom.data import FINDINGS, nih_datalist
from custom.data.phantoms.cxr import phantom_cxr
from custom.data.phantoms.cxr_files import write_nih
from custom.errors import InputError

TINY = {"shape": (32, 40), "workers": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("nih")
    write_nih(place, 8, **TINY)
    return place


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "Data_Entry_2017.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_columns_of_the_original(folder: Path) -> None:
    header = (folder / "Data_Entry_2017.csv").read_text().splitlines()[0]
    assert header == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    for row in rows_of(folder):
        assert row["Image Index"] == f"{int(row['Patient ID']):08d}_{int(row['Follow-up #']):03d}.png"
        assert row["View Position"] in ("PA", "AP") and row["Patient Gender"] in ("M", "F")
        assert 0 < int(row["Patient Age"]) < 100
        assert (row["OriginalImage[Width"], row["Height]"]) == ("40", "32")
        assert row["OriginalImagePixelSpacing[x"] == row["y]"] and 5 < float(row["y]"]) < 15


def test_images_and_labels_are_those_of_the_generator(folder: Path) -> None:
    rows = rows_of(folder)
    assert sorted(row["Image Index"] for row in rows) == sorted(path.name for path in (folder / "images").iterdir())
    for row in rows:
        with Image.open(folder / "images" / row["Image Index"]) as image:
            assert image.mode == "L"
            written = np.asarray(image)
        expected, findings = phantom_cxr(0, int(row["Patient ID"]), int(row["Follow-up #"]), TINY["shape"])
        assert np.array_equal(written, expected)
        assert row["Finding Labels"] == ("|".join(findings) or "No Finding")


def test_patients_have_different_numbers_of_images(folder: Path) -> None:
    patients = [row["Patient ID"] for row in rows_of(folder)]
    counts = {patient: patients.count(patient) for patient in patients}
    assert len(counts) == 8 and len(set(counts.values())) > 1


def test_the_lists_divide_the_images_by_patient(folder: Path) -> None:
    lists = [set((folder / name).read_text().split()) for name in ("train_val_list.txt", "test_list.txt")]
    assert lists[0] | lists[1] == {row["Image Index"] for row in rows_of(folder)}
    patients = [{name[:8] for name in names} for names in lists]
    assert patients[1] == {"00000002", "00000006"} and not patients[0] & patients[1]


def test_the_folder_is_read_as_a_data_set(folder: Path) -> None:
    items = {
        section: nih_datalist(folder, section, validation_fraction=0.5)
        for section in ("training", "validation", "test")
    }
    assert sum(map(len, items.values())) == len(rows_of(folder))
    assert all(len(item["label"]) == len(FINDINGS) for item in items["test"])


def test_more_patients_leave_the_first_as_they_are(tmp_path: Path, folder: Path) -> None:
    write_nih(tmp_path, 2, **TINY)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "images").iterdir()}
    write_nih(tmp_path, 3, **TINY)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for path in (tmp_path / "images").iterdir():
        assert path.read_bytes() == (folder / "images" / path.name).read_bytes()
    write_nih(tmp_path, 2, seed=1, **TINY)
    assert all((tmp_path / "images" / path.name).stat().st_mtime_ns != time for path, time in before.items())


def test_a_missing_or_truncated_image_is_written_again(tmp_path: Path) -> None:
    write_nih(tmp_path, 2, **TINY)
    files = sorted((tmp_path / "images").iterdir())
    content = [path.read_bytes() for path in files]
    files[0].write_bytes(content[0][:200])
    files[-1].unlink()
    write_nih(tmp_path, 2, **TINY)
    assert [path.read_bytes() for path in files] == content


def test_worker_processes_write_the_same_files(tmp_path: Path, folder: Path) -> None:
    write_nih(tmp_path, 3, shape=TINY["shape"], workers=2)
    for path in (tmp_path / "images").iterdir():
        assert path.read_bytes() == (folder / "images" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"patients": 1}, "patients"),
        ({"workers": 0}, "workers"),
        ({"shape": (16, 64)}, "shape"),
        ({"shape": 64}, "shape"),
    ],
)
def test_a_request_that_cannot_be_met_is_one_sentence(tmp_path: Path, change: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        write_nih(tmp_path, **({"patients": 2, **TINY} | change))


def test_the_command_line_writes_the_layout(tmp_path: Path) -> None:
    from scripts.phantoms import cxr

    cxr(str(tmp_path), patients=2, shape=(32, 32), workers=1)
    assert (tmp_path / "Data_Entry_2017.csv").is_file() and (tmp_path / "images" / "00000001_000.png").is_file()
