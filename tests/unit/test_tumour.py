"""Numbered tumour labels and the regions TC, WT, ET."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.errors import InputError
from custom.transforms import NativeTumourLabelsd, SaveTumourOverlayd, TumourRegionsd
from custom.transforms.tumour import CONVENTIONS, label_of, regions_of

TISSUES = ("background", "oedema", "core", "enhancing")


def numbered(name: str) -> torch.Tensor:
    """One voxel a tissue, (1, 4, 1, 1)."""
    convention = CONVENTIONS[name]
    return torch.tensor([0, convention.oedema, convention.core, convention.enhancing[0]]).reshape(1, 4, 1, 1)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_convention_gives_the_same_regions(name: str) -> None:
    regions = regions_of(numbered(name), CONVENTIONS[name].regions())[:, :, 0, 0].tolist()
    assert regions == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]]  # TC, WT, ET of background, oedema, core, enhancing


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", CONVENTIONS)
def test_regions_become_the_numbers_they_came_from(name: str, published: bool) -> None:
    regions = CONVENTIONS[name].regions(published)
    channels = regions_of(numbered(name), regions).bool()
    assert torch.equal(label_of(list(channels), regions), numbered(name)[0].to(torch.uint8))


def test_the_published_et_is_the_core_of_msd() -> None:
    regions = CONVENTIONS["msd"].regions(published_et=True)
    assert regions_of(numbered("msd"), regions)[2].flatten().tolist() == [0, 0, 1, 0]


def test_relabelled_cases_of_2021_are_read_and_4_is_written() -> None:
    relabelled = torch.tensor([0, 1, 2, 3]).reshape(1, 4, 1, 1)
    regions = CONVENTIONS["brats2021"].regions()
    assert label_of(list(regions_of(relabelled, regions).bool()), regions).flatten().tolist() == [0, 1, 2, 4]


def case(label: torch.Tensor, **options: str) -> dict:
    image = MetaTensor(torch.zeros(4, 4, 1, 1), meta={"filename_or_obj": "case.nii.gz"})
    return {"image": image, "label": label, **options}


def test_the_datalist_names_the_convention_unless_the_config_does() -> None:
    label = numbered("brats2021")
    expected = regions_of(label, CONVENTIONS["brats2021"].regions())
    assert torch.equal(TumourRegionsd("label")(case(label, convention="brats2021"))["label"], expected)
    assert torch.equal(TumourRegionsd("label", "brats2021")(case(label, convention="msd"))["label"], expected)


@pytest.mark.parametrize(("label", "convention", "words"), [
    (numbered("brats2021"), "auto", r"case.nii.gz has the numbers \[4\].*set label_convention"),
    (numbered("brats2021"), "brats2023", r"numbers \[4\]"),
    (numbered("msd"), "unknown", "case.nii.gz do not say how its label is numbered; set label_convention"),
    (numbered("msd"), "brats", "'brats' is unknown; use 'auto' or one of msd"),
])  # fmt: skip
def test_numbers_of_another_convention_are_refused(label: torch.Tensor, convention: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TumourRegionsd("label", convention)(case(label))


def test_an_image_without_a_label_needs_no_convention() -> None:
    image = case(numbered("msd"), convention="unknown")
    del image["label"]
    assert TumourRegionsd("label", allow_missing_keys=True)(image).keys() == image.keys()


OTHERS = {"organ": (1, 2), "lesion": (2,)}


def test_own_regions_take_the_place_of_a_convention(tmp_path: Path) -> None:
    label = torch.tensor([0, 1, 2, 1]).reshape(1, 4, 1, 1)
    channels = TumourRegionsd("label", regions=OTHERS)(case(label, convention="brats2021"))["label"]
    assert channels.flatten(1).tolist() == [[0, 1, 1, 1], [0, 0, 1, 0]]
    assert label_of(list(channels.bool()), OTHERS).flatten().tolist() == [0, 1, 2, 1]
    data = {**case(label), "pred": MetaTensor(label, meta={"filename_or_obj": "case.nii.gz"})}
    picture = SaveTumourOverlayd("pred", tmp_path, regions=OTHERS)
    assert picture.names == {1: "organ", 2: "lesion"} and torch.equal(picture.to_draw(data)[0].as_tensor(), label)


def test_a_number_of_no_region_and_a_region_without_a_number_of_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has the numbers \[2\].*set regions"):
        TumourRegionsd("label", regions={"tumour": (1,)})(case(torch.tensor([0, 2, 0, 0]).reshape(1, 4, 1, 1)))
    with pytest.raises(InputError, match=r"'whole' of .* has no number of its own"):
        SaveTumourOverlayd("pred", tmp_path, regions={"whole": (1, 2), "left": (1,), "right": (2,)})


@pytest.mark.parametrize("regions", [
    {"a": (1, 2), "b": (2, 3)}, {"whole": [1, 2], "left": [1], "right": [2]}, {"a": 1}, ["a"], {"a": []}, {"a": [0]},
    {"a": [300]}, {"a": ["1"]}, {"a": [1], "b": [1]},
])  # fmt: skip
def test_regions_that_a_label_cannot_hold_are_refused_before_training(regions: object) -> None:
    with pytest.raises(InputError, match="region"):
        TumourRegionsd("label", regions=regions)


@pytest.mark.parametrize("regions", [OTHERS, {"a": [1], "b": [2]}, {"x": [5], "all": [5, 1, 7], "y": [7]}])
def test_what_is_written_of_regions_reads_as_the_same_regions(regions: dict) -> None:
    numbers = sorted({number for members in regions.values() for number in members})
    label = torch.tensor([0, *numbers]).reshape(1, -1, 1, 1)
    channels = regions_of(label, regions)
    assert torch.equal(regions_of(label_of(list(channels.bool()), regions)[None], regions), channels)


def test_logits_become_numbers_on_the_grid_of_the_file() -> None:
    meta = {"filename_or_obj": "case.nii.gz", "original_affine": np.eye(4), "spatial_shape": np.array([4, 4, 4])}
    image = MetaTensor(torch.zeros(4, 2, 2, 2), affine=np.diag([2.0, 2, 2, 1]), meta=meta)
    logits = torch.full((3, 2, 2, 2), -1.0)
    logits[1] = 1.0  # whole tumour everywhere
    logits[0, 1] = logits[2, 1] = 9.0  # and enhancing tumour in the second half
    data = {"image": image, "pred": logits, "convention": "brats2021"}
    label = NativeTumourLabelsd("pred")(data)["pred"]
    assert label.shape == (1, 4, 4, 4) and label.dtype == torch.uint8
    assert label[0, :, 0, 0].tolist() == [2, 4, 4, 4]  # 0, .5, 1 and beyond: the logits cross 0 at .1


def test_a_tissue_has_one_colour_in_every_convention_and_the_background_is_black(tmp_path: Path) -> None:
    image = MetaTensor(torch.randn(4, 8, 8, 8), meta={"filename_or_obj": "/data/case.nii.gz"})
    image[:, :, :, :3] = 0  # background of an image of mean 0
    for name in CONVENTIONS:
        label = torch.zeros(1, 8, 8, 8, dtype=torch.uint8)
        label[:, 2:6, 2:6, 4] = numbered(name).to(torch.uint8)[:, :, :, 0]
        data = {"image": image, "pred": MetaTensor(label, meta=image.meta)}
        drawn, shown = SaveTumourOverlayd("pred", tmp_path, name).to_draw(data)
        assert drawn[0, 2:6, 2, 4].tolist() == [0, 1, 2, 3]
        assert (shown[0, :, :, :3] == image.min()).all() and torch.equal(shown[0, :, :, 3:], image[0, :, :, 3:])
