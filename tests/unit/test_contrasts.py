"""Four MR contrasts: their files, their order, and training without one of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from custom.data import datalist, input_images
from custom.data.contrasts import CONTRASTS, NEW_NAMES, OLD_NAMES, contrast_of
from custom.errors import InputError
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
    items = datalist(tmp_path, split="all")
    assert [contrast_of(path) for path in items[0]["image"]] == list(CONTRASTS)
    assert items[0]["convention"] == convention and items[0]["label"].endswith("seg.nii.gz")
    image = LoadVolumed("image", in_channels=4)(items[0])["image"]
    assert image[:, 1, 0, 0].tolist() == [1, 2, 3, 4]
    assert image.meta["filename_or_obj"] == str(tmp_path / "one")
    assert [item["image"] for item in input_images(tmp_path)] == [item["image"] for item in items]
    assert input_images(tmp_path / "one")[0]["image"] == items[0]["image"]


def test_a_missing_or_doubled_contrast_is_named(tmp_path: Path) -> None:
    whole = write_case(tmp_path / "whole")
    (write_case(tmp_path / "cut") / "case_t1ce.nii.gz").unlink()
    with pytest.raises(InputError, match="cut has no file of contrast T1gd; add one ending in t1ce or t1c or t1gd"):
        datalist(tmp_path)
    (tmp_path / "cut" / "case_t1ce.nii.gz").touch()
    (whole / "other_flair.nii.gz").touch()
    with pytest.raises(InputError, match=r"two files of contrast FLAIR, case_flair.nii.gz and other_flair.nii.gz"):
        datalist(tmp_path)


def test_a_case_with_a_single_contrast_among_whole_ones_is_a_fault(tmp_path: Path) -> None:
    write_case(tmp_path / "whole")
    for name in ("t1", "t1ce", "t2"):
        (tmp_path / "cut" / f"case_{name}.nii.gz").unlink() if name != "t1" else write_case(tmp_path / "cut")
    (tmp_path / "cut" / "case_t1.nii.gz").unlink()
    with pytest.raises(InputError, match="cut has no file of contrast T1w"):
        datalist(tmp_path)


@pytest.mark.parametrize("fault", ["shape", "affine"])
def test_contrasts_on_different_grids_are_refused(tmp_path: Path, fault: str) -> None:
    folder = write_case(tmp_path / "one")
    volume = np.arange(4 * 5 * (7 if fault == "shape" else 6)).reshape(4, 5, -1).astype(np.int16)
    affine = np.diag([1, 1, 1.1 if fault == "affine" else 1, 1])
    nib.save(nib.Nifti1Image(volume, affine), folder / "case_t2.nii.gz")
    with pytest.raises(InputError, match=rf"case_t2.nii.gz has (another )?{fault}.*case_flair.nii.gz"):
        LoadVolumed("image", in_channels=4)(datalist(tmp_path, split="all")[0])


def test_a_list_of_files_in_another_order_is_refused(tmp_path: Path) -> None:
    write_case(tmp_path / "one")
    names = [f"one/case_{name}.nii.gz" for name in ("t1", "flair", "t1ce", "t2")]
    (tmp_path / "dataset.json").write_text(f'{{"training": [{{"image": {names}}}]}}'.replace("'", '"'))
    with pytest.raises(InputError, match="T1w, FLAIR, T1gd, T2w; reorder them to FLAIR, T1w, T1gd, T2w"):
        datalist(tmp_path, with_labels=False, split="all")


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
