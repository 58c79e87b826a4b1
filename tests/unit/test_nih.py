"""Sections of chest X-rays in NIH's layout, divided by patient."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom.data import FINDINGS, nih_datalist
from custom.errors import InputError

Rows = list[tuple[str, str, str]]
ROWS: Rows = [
    (f"{patient:08d}_{visit:03d}.png", ("Effusion|Mass", "No Finding", "Hernia")[patient % 3], str(patient))
    for patient in range(1, 41)
    for visit in range(1 + patient % 2)
]
MakeNih = Callable[..., Path]


@pytest.fixture
def make_nih(tmp_path: Path) -> MakeNih:
    """make_nih(rows, train=[names], test=[names], folders=2): a dataset folder of 8 x 8 images."""

    def make(
        rows: Rows = ROWS,
        train: list[str] | None = None,
        test: list[str] | None = None,
        folders: int = 0,
        at: str = "nih",
    ) -> Path:
        folder = tmp_path / at
        places = [f"images_{number:03d}/images" for number in range(1, folders + 1)] or ["images"]
        for index, (name, *_) in enumerate(rows):
            place = folder / places[index % len(places)]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(place / name)
        with (folder / "Data_Entry_2017.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age"])
            writer.writerows([name, findings, 0, patient, 50] for name, findings, patient in rows)
        for list_name, names in (("train_val_list.txt", train), ("test_list.txt", test)):
            if names is not None:
                (folder / list_name).write_text("\n".join(names) + "\n")
        return folder

    return make


def patients(items: list[dict]) -> set[str]:
    return {item["patient"] for item in items}


def test_labels_follow_the_order_of_findings(make_nih: MakeNih) -> None:
    items = nih_datalist(make_nih(), test_fraction=0.0, validation_fraction=0.0001)
    by_patient = {item["patient"]: item["label"] for item in items}
    assert [FINDINGS[k] for k, value in enumerate(by_patient["3"]) if value] == ["Effusion", "Mass"]
    assert sum(by_patient["4"]) == 0  # No Finding
    assert by_patient["5"] == [0] * 13 + [1]


@pytest.mark.parametrize("folders", [0, 3])
def test_sections_share_no_patient_and_leave_none_out(make_nih: MakeNih, folders: int) -> None:
    folder = make_nih(folders=folders)
    parts = [nih_datalist(folder, section) for section in ("training", "validation", "test")]
    groups = [patients(part) for part in parts]
    assert sum(map(len, parts)) == len(ROWS) and all(groups)
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])


def test_the_side_of_a_patient_depends_on_nothing_but_its_id_and_the_seed(make_nih: MakeNih) -> None:
    whole = patients(nih_datalist(make_nih(), "test"))
    half = make_nih(ROWS[::2])
    assert patients(nih_datalist(half, "test")) == whole & {patient for *_, patient in ROWS[::2]}
    assert patients(nih_datalist(half, "test", split_seed=1)) != patients(nih_datalist(half, "test"))


def test_official_lists_decide(make_nih: MakeNih) -> None:
    names = [name for name, *_ in ROWS]
    folder = make_nih(train=names[:40], test=names[42:])
    test = nih_datalist(folder, "test")
    assert [Path(item["image"]).name for item in test] == names[42:]
    rest = nih_datalist(folder, "training") + nih_datalist(folder, "validation")
    assert sorted(Path(item["image"]).name for item in rest) == names[:40]


def test_without_validation_the_test_section_is_used_as_in_the_reference(make_nih: MakeNih) -> None:
    folder = make_nih()
    assert nih_datalist(folder, "validation", validation_fraction=0) == nih_datalist(folder, "test")


def test_a_patient_is_on_the_same_side_in_every_folder(make_nih: MakeNih) -> None:
    """Also where one folder has official lists and the other none, or pads its numbers."""
    names = [name for name, *_ in ROWS]
    padded = [(f"b{name}", findings, patient.zfill(8)) for name, findings, patient in ROWS]
    official = make_nih(train=names[30:], test=names[:30], at="official")
    plain = make_nih(padded, at="plain")
    groups = [patients(nih_datalist([official, plain], name)) for name in ("training", "validation", "test")]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    assert groups[2] == {patient for *_, patient in ROWS[:30]}
    assert len(nih_datalist([official, plain], "test")) == 2 * 30


def test_a_plain_folder_needs_no_labels(make_nih: MakeNih) -> None:
    folder = make_nih()
    (folder / "Data_Entry_2017.csv").rename(folder / "other.csv")
    items = nih_datalist(folder / "images", with_labels=False)
    assert len(items) == len(ROWS) and "label" not in items[0]


def test_the_images_beside_a_table_are_not_taken_without_it(make_nih: MakeNih) -> None:
    """They hold test images."""
    with pytest.raises(InputError, match="test images as well"):
        nih_datalist(make_nih() / "images", with_labels=False)


NAMES = [name for name, *_ in ROWS]


@pytest.mark.parametrize(("change", "words"), [
    ({"rows": [*ROWS, ("00000099_000.png", "Fracture", "99")]}, ["00000099_000.png", "'Fracture'", "class_names"]),
    ({"train": ["lost.png", *NAMES]}, ["train_val_list.txt", "lost.png", "no such file"]),
    ({"train": NAMES[:41], "test": NAMES[40:]}, ["1 patients are in", f": {ROWS[40][2]};"]),
    ({"rows": [*ROWS, ROWS[0]]}, [ROWS[0][0], "twice"]),
    ({"rows": [*ROWS, ("00000099_000.png", "", "99")]}, ["00000099_000.png", "without image, findings or patient"]),
    ({"rows": [*ROWS, ("00000099_000.png", "Mass", "")]}, ["00000099_000.png", "without image, findings or patient"]),
])  # fmt: skip
def test_faults_are_named(make_nih: MakeNih, change: dict, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        nih_datalist(make_nih(**change))
    assert all(word in str(caught.value) for word in words)


def test_a_missing_table_column_or_folder_is_named(make_nih: MakeNih, tmp_path: Path) -> None:
    folder = make_nih()
    (folder / "Data_Entry_2017.csv").write_text("Image Index,Findings\n")
    with pytest.raises(InputError, match="Finding Labels"):
        nih_datalist(folder)
    (folder / "Data_Entry_2017.csv").unlink()
    with pytest.raises(InputError, match="holds no Data_Entry_2017"):
        nih_datalist(folder)
    with pytest.raises(InputError, match="is not a folder"):
        nih_datalist(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no image"):
        nih_datalist(tmp_path / "empty", with_labels=False)


def test_images_that_are_not_there_or_there_twice_are_named(make_nih: MakeNih) -> None:
    folder = make_nih(folders=2)
    first = next((folder / "images_001" / "images").iterdir())
    (folder / "images_002" / "images" / first.name).write_bytes(first.read_bytes())
    with pytest.raises(InputError, match="have the same name"):
        nih_datalist(folder)
    empty = make_nih(at="empty")
    for path in (empty / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none of the 60 images"):
        nih_datalist(empty)


def test_an_empty_section_is_an_error(make_nih: MakeNih) -> None:
    with pytest.raises(InputError, match="section 'test'"):
        nih_datalist(make_nih(), "test", test_fraction=0.0)
