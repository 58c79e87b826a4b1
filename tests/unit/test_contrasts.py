"""Four MR contrasts: their files, their order, and training without one of them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from custom.data import datalist, input_images
from custom.data.contrasts import CONTRASTS, NEW_NAMES, OLD_NAMES, contrast_of, label_convention
from custom.errors import InputError
from custom.files import case_name, source_of
from custom.transforms import DropContrastsd, LoadVolumed, RandDropContrastsd


def write_case(folder: Path, names: tuple[str, ...] = OLD_NAMES, prefix: str = "case_") -> Path:
    """A case whose voxels hold the index of their contrast plus 1."""
    folder.mkdir(parents=True)
    for index, name in enumerate((*names, "seg")):
        volume = np.full((4, 5, 6), index + 1, np.int16)
        volume[0] = 0
        nib.save(nib.Nifti1Image(volume, np.eye(4)), folder / f"{prefix}{name}.nii.gz")
    return folder


@pytest.mark.parametrize(("names", "prefix", "convention"), [
    (OLD_NAMES, "BraTS2021_00006_", "brats2021"),
    (NEW_NAMES, "BraTS-GLI-00006-000-", "brats2023"),
    (OLD_NAMES, "", "brats2021"),
])  # fmt: skip
def test_a_folder_of_contrasts_is_a_case_in_a_fixed_order(
    tmp_path: Path, names: tuple[str, ...], prefix: str, convention: str
) -> None:
    write_case(tmp_path / "one", names, prefix)
    write_case(tmp_path / "two", names, prefix)
    items = datalist(tmp_path, split="all", contrasts=CONTRASTS)
    assert [contrast_of(path, CONTRASTS) for path in items[0]["image"]] == list(CONTRASTS)
    assert items[0]["convention"] == convention and items[0]["label"].endswith("seg.nii.gz")
    image = LoadVolumed("image", in_channels=4)(items[0])["image"]
    assert image[:, 1, 0, 0].tolist() == [1, 2, 3, 4]
    assert image.meta["filename_or_obj"] == str(tmp_path / "one")
    assert [item["image"] for item in input_images(tmp_path, contrasts=CONTRASTS)] == [item["image"] for item in items]
    assert input_images(tmp_path / "one", contrasts=CONTRASTS)[0]["image"] == items[0]["image"]


def test_a_folder_a_channel_pairs_files_by_name(tmp_path: Path) -> None:
    for name in ("PET", "CT", "label"):
        (tmp_path / name).mkdir()
        for case in ("b", "a"):
            (tmp_path / name / f"{case}.nii.gz").touch()
    items = datalist(tmp_path, split="all", contrasts=["PET", "CT"])
    assert [[str(Path(path).relative_to(tmp_path)) for path in item["image"]] for item in items] == [
        ["PET/a.nii.gz", "CT/a.nii.gz"],
        ["PET/b.nii.gz", "CT/b.nii.gz"],
    ]
    assert [case_name(source_of(item["image"])) for item in items] == ["a", "b"]
    assert items[0]["label"] == str(tmp_path / "label" / "a.nii.gz")
    (tmp_path / "CT" / "a.nii.gz").unlink()
    with pytest.raises(InputError, match="CT has no a, which other channels have"):
        datalist(tmp_path, split="all", contrasts=["PET", "CT"])


def test_cases_that_a_list_would_give_one_name_are_refused(tmp_path: Path) -> None:
    items = [{"image": [f"all/{case}_t1.nii.gz", f"all/{case}_t2.nii.gz"]} for case in "ab"]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": items}))
    with pytest.raises(InputError, match=r"dataset.json has 2 cases that would be called all; give each a folder"):
        datalist(tmp_path, split="all", with_labels=False)


def test_a_missing_or_doubled_contrast_is_named(tmp_path: Path) -> None:
    whole = write_case(tmp_path / "whole")
    (write_case(tmp_path / "cut") / "case_t1ce.nii.gz").unlink()
    with pytest.raises(InputError, match="cut has no file of contrast T1gd; add one ending in T1gd or t1ce or t1c"):
        datalist(tmp_path, contrasts=CONTRASTS)
    (tmp_path / "cut" / "case_t1ce.nii.gz").touch()
    (whole / "other_flair.nii.gz").touch()
    with pytest.raises(InputError, match=r"two files of contrast FLAIR, case_flair.nii.gz and other_flair.nii.gz"):
        datalist(tmp_path, contrasts=CONTRASTS)


def test_a_case_with_a_single_contrast_among_whole_ones_is_a_fault(tmp_path: Path) -> None:
    write_case(tmp_path / "whole")
    for name in ("t1", "t1ce", "t2"):
        (tmp_path / "cut" / f"case_{name}.nii.gz").unlink() if name != "t1" else write_case(tmp_path / "cut")
    (tmp_path / "cut" / "case_t1.nii.gz").unlink()
    with pytest.raises(InputError, match="cut has no file of contrast T1w"):
        datalist(tmp_path, contrasts=CONTRASTS)


@pytest.mark.parametrize("fault", ["shape", "affine"])
def test_contrasts_on_different_grids_are_refused(tmp_path: Path, fault: str) -> None:
    folder = write_case(tmp_path / "one")
    volume = np.arange(4 * 5 * (7 if fault == "shape" else 6)).reshape(4, 5, -1).astype(np.int16)
    affine = np.diag([1, 1, 1.1 if fault == "affine" else 1, 1])
    nib.save(nib.Nifti1Image(volume, affine), folder / "case_t2.nii.gz")
    with pytest.raises(InputError, match=rf"case_t2.nii.gz has (another )?{fault}.*case_flair.nii.gz"):
        LoadVolumed("image", in_channels=4)(datalist(tmp_path, split="all", contrasts=CONTRASTS)[0])


def test_a_list_of_files_in_another_order_is_refused(tmp_path: Path) -> None:
    write_case(tmp_path / "one")
    names = [f"one/case_{name}.nii.gz" for name in ("t1", "flair", "t1ce", "t2")]
    (tmp_path / "dataset.json").write_text(f'{{"training": [{{"image": {names}}}]}}'.replace("'", '"'))
    with pytest.raises(InputError, match="T1w as channel 0, where FLAIR is due; reorder the contrasts to FLAIR, T1w"):
        datalist(tmp_path, with_labels=False, split="all", contrasts=CONTRASTS)


def test_dropped_contrasts_are_zero_and_at_least_one_stays() -> None:
    transform = RandDropContrastsd("image", prob=1.0).set_random_state(0)
    kept = [(transform({"image": torch.ones(4, 2, 2, 2)})["image"] > 0).flatten(1).all(dim=1) for _ in range(50)]
    counts = {int(flags.sum()) for flags in kept}
    assert counts == {1, 2, 3} and torch.stack(kept).any(dim=0).all() and not torch.stack(kept).all(dim=0).any()


def test_dropping_leaves_the_input_alone_and_can_be_switched_off() -> None:
    image = torch.ones(4, 2, 2, 2)
    DropContrastsd("image", CONTRASTS, "T1gd")({"image": image})
    assert image.all()
    assert RandDropContrastsd("image", prob=0.0)({"image": image})["image"].all()
    dropped = DropContrastsd("image", CONTRASTS, ["FLAIR", "T2w"])({"image": image})["image"]
    assert dropped[:, 0, 0, 0].tolist() == [0, 1, 1, 0]


def test_names_of_contrasts_mean_nothing_where_none_are_asked_for(tmp_path: Path) -> None:
    """CT users may call time points T1 and T2."""
    for name in ("P1_T1", "P1_T2", "P2_T1"):
        (tmp_path / f"{name}.nii.gz").touch()
    write_case(tmp_path / "MR")
    assert len(datalist(tmp_path, with_labels=False)) == len(input_images(tmp_path)) == 3


def test_files_of_four_contrasts_beside_folders_are_inputs_too(tmp_path: Path) -> None:
    write_case(tmp_path / "one")
    (tmp_path / "other.nii.gz").touch()
    found = input_images(tmp_path, contrasts=CONTRASTS)
    assert [type(item["image"]) for item in found] == [list, str] and "convention" not in found[1]
    (tmp_path / "one_pred.nii.gz").touch()  # the output of an earlier run
    assert input_images(tmp_path, postfix="pred", contrasts=CONTRASTS) == found


def test_cases_may_lie_in_folders_of_grades(tmp_path: Path) -> None:
    write_case(tmp_path / "HGG" / "one")
    write_case(tmp_path / "LGG" / "two")
    assert len(datalist(tmp_path, split="all", contrasts=CONTRASTS)) == 2


def test_two_labels_in_a_case_are_refused(tmp_path: Path) -> None:
    (write_case(tmp_path / "one") / "other_seg.nii.gz").touch()
    with pytest.raises(InputError, match=r"one has two labels, case_seg\.nii\.gz and other_seg\.nii\.gz"):
        datalist(tmp_path, contrasts=CONTRASTS)


@pytest.mark.parametrize(("names", "convention"), [
    (OLD_NAMES, "brats2021"), (NEW_NAMES, "brats2023"), (("flair", "t1", "t1c", "t2"), "unknown"),
    (("flair", "t1w", "t1gd", "t2w"), "unknown"),
])  # fmt: skip
def test_mixed_names_do_not_say_how_labels_are_numbered(names: tuple[str, ...], convention: str) -> None:
    assert label_convention([Path(f"case_{name}.nii.gz") for name in names]) == convention


@pytest.mark.parametrize("modality", [
    {"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"}, {"1": "FLAIR", "0": "T1w", "2": "t1gd", "3": "T2w"},
    ["T1w", "FLAIR", "T1 post", "T2w"],
])  # fmt: skip
def test_a_modality_in_another_order_is_refused(tmp_path: Path, modality: object) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": ["a.nii.gz"]}))
    with pytest.raises(InputError, match="T1w as channel 0, where FLAIR is due"):
        datalist(tmp_path, contrasts=CONTRASTS)


@pytest.mark.parametrize("modality", [
    "MRI", ["CT"], {"3": "T2w", "0": "FLAIR", "1": "T1w", "2": "t1gd"}, {"0": "FLAIR", "1": "T1 pre"},
])  # fmt: skip
def test_a_modality_in_order_or_unknown_is_no_obstacle(tmp_path: Path, modality: object) -> None:
    (tmp_path / "a.nii.gz").touch()
    (tmp_path / "dataset.json").write_text(json.dumps({"modality": modality, "training": ["a.nii.gz"]}))
    assert len(datalist(tmp_path, split="all", with_labels=False, contrasts=CONTRASTS)) == 1
