"""Which cases a comparison uses."""

import csv
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from custom.errors import InputError
from custom.study import cases
from custom.study.cases import CaseLists, choose_labelled, source_of_image, without_labels
from custom.study.settings import Settings, read_settings
from scripts.tiny import ROOT, write_data

ITEMS = [{"image": f"/data/{p}_{i}.png", "patient": str(p), "label": [0]} for p in range(20) for i in range(1 + p % 3)]


def patients(items: list[dict]) -> set[str]:
    return {item["patient"] for item in items}


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_whole_and_larger_choices_hold_smaller_ones(seed: int) -> None:
    few, more = choose_labelled(ITEMS, 7, seed), choose_labelled(ITEMS, 20, seed)
    assert 7 <= len(few) <= 9 and patients(few) < patients(more)
    assert not patients(few) & patients([item for item in ITEMS if item not in few])


def test_seeds_choose_differently_and_all_is_all() -> None:
    assert choose_labelled(ITEMS, 7, 0) != choose_labelled(ITEMS, 7, 1)
    assert choose_labelled(ITEMS, 7, 0) == choose_labelled(ITEMS, 7, 0)
    assert choose_labelled(ITEMS, 0, 0) == ITEMS


def test_too_few_are_refused() -> None:
    with pytest.raises(InputError, match="are asked for"):
        choose_labelled(ITEMS, 1000, 0)


def test_pretraining_gets_no_labels() -> None:
    assert not any("label" in item for item in without_labels(ITEMS))


def test_images_are_known_by_their_folder_also_where_they_are_links(tmp_path: Path) -> None:
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    for folder in folders:
        Path(folder).mkdir()
    (tmp_path / "elsewhere.png").touch()
    link = tmp_path / "b" / "x.png"
    link.symlink_to(tmp_path / "elsewhere.png")
    assert source_of_image(str(link), folders) == 1
    with pytest.raises(InputError, match="lies in none of"):
        source_of_image(str(tmp_path / "elsewhere.png"), folders)


def classifier(folder: Path, every: int, **settings: object) -> Settings:
    """Settings for images of which the first of each `every` has Mass, or none has any finding."""
    data = write_data("nih", folder)
    table = data / "Data_Entry_2017.csv"
    rows = list(csv.reader(table.read_text().splitlines()))
    finding = rows[0].index("Finding Labels")
    for place, row in enumerate(rows[1:]):
        row[finding] = "Mass" if every and place % every == 0 else "No Finding"
    with table.open("w", newline="") as opened:
        csv.writer(opened).writerows(rows)
    return read_settings(bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), **settings)


def test_what_cannot_be_ranked_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="positive and negative validation images of one folder"):
        CaseLists(tmp_path / "lists", classifier(tmp_path, 0))


def test_positives_and_negatives_of_a_section_are_counted(tmp_path: Path) -> None:
    lists = CaseLists(tmp_path / "lists", classifier(tmp_path, 3, section="validation"))
    mass = [sum(item["label"]) for item in lists.sections["validation"]]
    assert lists.positives("validation") == min(sum(mass), len(mass) - sum(mass)) > 0


@pytest.fixture
def lists_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., CaseLists]:
    """The lists of folders a, b, ..., whose validation images have these labels."""

    def make(*labels: list[list[int]]) -> CaseLists:
        folders = [str(tmp_path / name) for name in "abc"[: len(labels)]]
        items = [
            {"image": f"{folder}/{number}.png", "label": label}
            for folder, own in zip(folders, labels, strict=True)
            for number, label in enumerate(own)
        ]
        monkeypatch.setattr(cases, "list_sections", lambda _: {"validation": items})
        settings = SimpleNamespace(dataset_dir=folders, section="validation", recipe=SimpleNamespace(classifies=False))
        return CaseLists(tmp_path / "lists", settings)

    return make


def test_a_finding_that_would_not_be_scored_ranks_nothing(lists_of: Callable[..., CaseLists]) -> None:
    lists = lists_of([[1, 0]] * 3 + [[0, 0]] * 12, [[0, 1]] * 12)  # the second has enough, all of them in one folder
    assert not lists.rankable("validation") and lists.positives("validation") == 12


def test_positives_of_all_folders_are_counted_together(lists_of: Callable[..., CaseLists]) -> None:
    lists = lists_of(*[[[1]] * 6 + [[0]] * 9] * 2)
    assert lists.rankable("validation") and lists.positives("validation") == 12


def test_data_that_changed_between_two_commands_is_refused(tmp_path: Path) -> None:
    data, settings = write_data("btcv", tmp_path / "data"), {"bundle": str(ROOT / "bundles" / "unetr_btcv")}
    read = read_settings(**settings, dataset_dir=str(data), cases=(2,), shared={"split": "0/3"})
    for _ in range(2):
        CaseLists(tmp_path / "lists", read).write()
    before = {path: path.read_bytes() for path in (tmp_path / "lists").iterdir()}
    for folder in ("imagesTr", "labelsTr"):
        first = sorted((data / folder).iterdir())[0]
        first.rename(first.with_name(first.name.replace("0", "9")))
    with pytest.raises(InputError, match="data are no longer those"):
        CaseLists(tmp_path / "lists", read).write()
    assert {path: path.read_bytes() for path in (tmp_path / "lists").iterdir()} == before


def test_a_label_map_that_was_corrected_is_other_data(tmp_path: Path) -> None:
    data = write_data("btcv", tmp_path / "data")
    read = read_settings(bundle=str(ROOT / "bundles" / "unetr_btcv"), dataset_dir=str(data), shared={"split": "0/3"})
    CaseLists(tmp_path / "lists", read).write()
    CaseLists(tmp_path / "lists", read).write()
    os.utime(sorted((data / "labelsTr").iterdir())[0], ns=(1, 1))
    with pytest.raises(InputError, match=r"no longer those that .*files\.json"):
        CaseLists(tmp_path / "lists", read).write()
