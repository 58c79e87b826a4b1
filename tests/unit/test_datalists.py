"""Layouts, splits and folds: which case lands in which section."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from custom.data.datalists import datalist, input_images
from custom.data.splits import TRANSUNET_TEST, fold_membership
from custom.errors import InputError

FOLDS_FIXTURE = Path(__file__).parents[1] / "fixtures" / "msd_brats_folds_seed12345.json"
BTCV_NUMBERS = [*range(1, 11), *range(21, 41)]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def names(items: list[dict[str, str]]) -> list[str]:
    return [Path(item["image"]).name.split(".")[0] for item in items]


@pytest.fixture
def btcv(tmp_path: Path) -> Path:
    for number in BTCV_NUMBERS:
        touch(tmp_path / "imagesTr" / f"img{number:04d}.nii.gz")
        touch(tmp_path / "labelsTr" / f"label{number:04d}.nii.gz")
    return tmp_path


@pytest.fixture
def msd(tmp_path: Path) -> Path:
    training = [{"image": f"./imagesTr/B_{n:03d}.nii.gz", "label": f"./labelsTr/B_{n:03d}.nii.gz"} for n in range(11)]
    for item in training:
        touch(tmp_path / item["image"])
        touch(tmp_path / item["label"])
    touch(tmp_path / "imagesTs" / "B_100.nii.gz")
    content = {"training": training[::-1], "test": ["./imagesTs/B_100.nii.gz"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_btcv_is_split_18_to_12_as_transunet_does(btcv: Path) -> None:
    training, test = datalist(btcv), datalist(btcv, "test")
    assert (len(training), len(test)) == (18, 12)
    assert {int(name[3:]) for name in names(test)} == TRANSUNET_TEST
    assert names(training) == sorted(f"img{n:04d}" for n in set(BTCV_NUMBERS) - TRANSUNET_TEST)


def test_each_label_belongs_to_its_image(btcv: Path) -> None:
    for item in datalist(btcv, split="all"):
        assert Path(item["label"]).name == Path(item["image"]).name.replace("img", "label")


def test_a_label_may_bear_its_images_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "case_7.nii.gz")
    label = touch(tmp_path / "labelsTr" / "case_7.nii")
    assert datalist(tmp_path, split="all")[0]["label"] == str(label)


def test_without_held_out_cases_validation_is_the_test_section(btcv: Path) -> None:
    assert datalist(btcv, "validation") == datalist(btcv, "test")


@pytest.mark.parametrize("count", [1, 4, 17])
def test_held_out_validation_cases_leave_training_and_spare_the_test_section(btcv: Path, count: int) -> None:
    parts = {s: names(datalist(btcv, s, validation_cases=count)) for s in ("training", "validation", "test")}
    assert len(parts["validation"]) == count
    assert sorted(parts["training"] + parts["validation"]) == names(datalist(btcv))
    assert parts["test"] == names(datalist(btcv, "test"))


def test_held_out_validation_cases_are_spread_evenly(btcv: Path) -> None:
    training = names(datalist(btcv))
    positions = [training.index(name) for name in names(datalist(btcv, "validation", validation_cases=3))]
    assert positions == [3, 9, 15]


def test_all_puts_every_case_in_every_section(btcv: Path) -> None:
    for section in ("training", "validation", "test"):
        assert len(datalist(btcv, section, split="all")) == 30


def test_folds_equal_the_published_brats_folds() -> None:
    published = json.loads(FOLDS_FIXTURE.read_text())
    for fold, positions in enumerate(published["folds"]):
        members = fold_membership(published["n"], f"{fold}/{published['nfolds']}", Path())
        assert [i for i, member in enumerate(members) if member] == sorted(positions)


def test_folds_count_positions_in_the_msd_list_not_in_the_sorted_one(msd: Path) -> None:
    listed = json.loads((msd / "dataset.json").read_text())["training"]
    expected = [listed[i]["image"] for i, member in enumerate(fold_membership(11, "0/5", msd)) if member]
    assert names(datalist(msd, "test")) == sorted(Path(image).name.split(".")[0] for image in expected)


def test_folds_test_every_case_once(msd: Path) -> None:
    tested = [name for fold in range(5) for name in names(datalist(msd, "test", split=f"{fold}/5"))]
    assert sorted(tested) == [f"B_{n:03d}" for n in range(11)]


def test_msd_items_are_sorted_by_case(msd: Path) -> None:
    assert names(datalist(msd, split="all")) == [f"B_{n:03d}" for n in range(11)]


def test_the_msd_files_own_lists_can_be_the_split(msd: Path) -> None:
    assert names(datalist(msd, "test", split="dataset.json", with_labels=False)) == ["B_100"]
    assert len(datalist(msd, split="dataset.json")) == 11


def test_a_split_file_may_name_cases_or_items(btcv: Path, tmp_path: Path) -> None:
    item = {"image": "imagesTr/img0009.nii.gz", "label": "labelsTr/label0009.nii.gz"}
    lists = {"training": ["img0005", "0006", item], "validation": ["img0001.nii.gz"], "test": ["0002", "0003"]}
    (tmp_path / "my.json").write_text(json.dumps(lists))
    assert names(datalist(btcv, split="my.json")) == ["img0005", "img0006", "img0009"]
    assert names(datalist(btcv, "validation", str(tmp_path / "my.json"), validation_cases=2)) == ["img0001"]
    assert [Path(i["label"]).name for i in datalist(btcv, "test", "my.json")] == [
        "label0002.nii.gz",
        "label0003.nii.gz",
    ]


def test_a_split_file_without_a_test_list_tests_on_its_validation_list(btcv: Path) -> None:
    (btcv / "my.json").write_text(json.dumps({"training": ["0005"], "validation": ["0001"]}))
    assert datalist(btcv, "test", "my.json") == datalist(btcv, "validation", "my.json")


def test_a_plain_folder_is_all_training_without_labels(tmp_path: Path) -> None:
    for name in ("b.nii", "a.nii.gz", "._a.nii.gz", "notes.txt"):
        touch(tmp_path / name)
    assert datalist(tmp_path, with_labels=False) == [
        {"image": str(tmp_path / "a.nii.gz")},
        {"image": str(tmp_path / "b.nii")},
    ]


def test_unlabelled_items_need_no_label_files(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr" / "img0005.nii.gz")
    assert datalist(tmp_path, with_labels=False) == [{"image": str(tmp_path / "imagesTr" / "img0005.nii.gz")}]


def test_input_images_takes_a_file_or_a_folder(tmp_path: Path) -> None:
    file = touch(tmp_path / "a.nii.gz")
    touch(tmp_path / "inner" / "b.nii.gz")
    assert input_images(file) == input_images(tmp_path) == [{"image": str(file)}]


def test_outputs_beside_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path / "a_seg.nii.gz")
    alone = input_images(tmp_path)
    image = touch(tmp_path / "a.nii.gz")
    assert alone == [{"image": str(tmp_path / "a_seg.nii.gz")}], "not an output: its image is not there"
    assert input_images(tmp_path) == [{"image": str(image)}]


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a.nii")
    touch(tmp_path / "a.nii.gz")
    with pytest.raises(InputError, match=r"a\.nii and a\.nii\.gz; remove or rename"):
        input_images(tmp_path)


def test_two_training_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("img0005.nii", "img0005.nii.gz"):
        touch(tmp_path / "imagesTr" / name)
    with pytest.raises(InputError, match=r"img0005\.nii and img0005\.nii\.gz"):
        datalist(tmp_path, with_labels=False)


@pytest.mark.parametrize("training", ["abc", 3])
def test_a_dataset_json_without_a_list_is_refused(tmp_path: Path, training: object) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"training": training, "test": []}))
    with pytest.raises(InputError, match="no list of cases"):
        datalist(tmp_path)


def test_the_root_of_a_dataset_is_sent_to_its_images(tmp_path: Path) -> None:
    """A data set's own folder holds no image, but is what a user tries first."""
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "imagesTr"))):
        input_images(tmp_path)


def test_names_of_ones_own_are_split_by_folds_and_not_by_the_numbers_of_btcv(tmp_path: Path) -> None:
    for number in range(10):
        for folder in ("imagesTr", "labelsTr"):
            touch(tmp_path / folder / f"patient_{number}.nii.gz")
    assert datalist(tmp_path, "test") == datalist(tmp_path, "test", split="0/5")
    assert len(datalist(tmp_path, "test")) == 2


def test_a_name_among_those_of_btcv_that_is_none_needs_a_split(btcv: Path, tmp_path: Path) -> None:
    shutil.copytree(btcv, tmp_path / "mixed")
    for folder, name in (("imagesTr", "img0001_flip"), ("labelsTr", "label0001_flip")):
        touch(tmp_path / "mixed" / folder / f"{name}.nii.gz")
    with pytest.raises(InputError, match="mixes BTCV's names"):
        datalist(tmp_path / "mixed")
    assert set(names(datalist(btcv, "test"))) < set(names(datalist(tmp_path / "mixed", "test", split="transunet")))
