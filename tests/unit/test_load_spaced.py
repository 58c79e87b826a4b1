"""Loading at another spacing, slab by slab: what MONAI's transforms make of the whole volume, in less memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImaged, Orientationd, Spacingd

from custom import spacing
from custom.errors import find_input_error
from custom.transforms import LoadAtSpacingd, LoadVolumed

KEYS = ["image", "label"]
SHAPE, SPACING = (11, 9, 7), (0.8, 1.3, 2.1)
PIXDIM = (1.13, 0.91, 1.71)  # coarser, finer, finer; no position lies half-way between voxels
ORIENTATIONS = [
    np.eye(3)[list(order)] * signs for order, signs in product(permutations(range(3)), product((1, -1), repeat=3))
]


def affine_of(axes: np.ndarray, spacing: Sequence[float] = SPACING) -> np.ndarray:
    """Unit vectors of the file's axes (columns) and its voxel size, with an origin away from 0."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes * spacing, (-40.3, 17.9, 250.0)
    return affine


def turned(degrees: float) -> np.ndarray:
    angle = np.deg2rad(degrees)
    about_z = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return about_z @ about_z[[2, 0, 1]][:, [2, 0, 1]]


def write(path: Path, array: np.ndarray, affine: np.ndarray, scaling: tuple[float, float] = (1, 0)) -> str:
    header = nibabel.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
    header.set_data_dtype(array.dtype)
    volume = nibabel.Nifti1Image(array, affine, header)
    volume.header.set_slope_inter(*scaling)
    nibabel.save(volume, path)
    return str(path)


def write_case(folder: Path, affine: np.ndarray, shape: Sequence[int] = SHAPE, suffix: str = ".nii") -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {
        "image": write(folder / f"i{suffix}", rng.integers(-1000, 1000, shape).astype(np.int16), affine),
        "label": write(folder / f"l{suffix}", rng.integers(0, 14, shape).astype(np.uint8), affine),
    }


def by_monai(case: dict[str, Any], pixdim: Any = PIXDIM, **options: Any) -> dict[str, MetaTensor]:
    keys = list(case)
    modes = ["nearest" if key == "label" else "bilinear" for key in keys]
    chain = [
        LoadVolumed(keys, **options),
        Orientationd(keys, axcodes="RAS", labels=None),
        Spacingd(keys, pixdim=pixdim, mode=modes, dtype=torch.float32),
    ]
    return Compose(chain)(case)


def assert_same(found: MetaTensor, expected: MetaTensor, nearest: bool = False) -> None:
    assert found.shape == expected.shape and found.is_contiguous()
    assert np.allclose(found.affine, expected.affine, rtol=0, atol=1e-9)
    span = float(expected.max() - expected.min())
    difference = (found.as_tensor().float() - expected.as_tensor()).abs().max()
    assert difference <= (0 if nearest else 1e-4 * span)
    assert found.meta.keys() == expected.meta.keys()
    for name in expected.meta:
        values = [np.asarray(volume.meta[name]) for volume in (found, expected)]
        if name in ("affine", "pixdim"):
            np.testing.assert_allclose(*values, atol=1e-9)
        else:
            np.testing.assert_equal(*values)


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_every_orientation_is_what_monai_makes_of_it(tmp_path: Path, axes: np.ndarray) -> None:
    case = write_case(tmp_path, affine_of(axes))
    found, expected = LoadAtSpacingd(KEYS, PIXDIM)(case), by_monai(case)
    assert_same(found["image"], expected["image"])
    assert_same(found["label"], expected["label"], nearest=True)
    assert (found["image"].dtype, found["label"].dtype) == (torch.float32, torch.uint8)


@pytest.mark.parametrize("axes", [turned(20), turned(-35)[[1, 2, 0]], -turned(10)])
def test_an_oblique_grid_keeps_its_direction(tmp_path: Path, axes: np.ndarray) -> None:
    case = write_case(tmp_path, affine_of(axes))
    assert_same(LoadAtSpacingd("image", PIXDIM)(case)["image"], by_monai(case)["image"])


def test_a_sheared_grid_goes_through_monai(tmp_path: Path) -> None:
    affine = affine_of(turned(20))
    affine[:3, 2] += 0.5 * affine[:3, 1]
    case = write_case(tmp_path, affine)
    grid = spacing.ras_grid(nibabel.load(case["image"]).affine, SHAPE, PIXDIM)
    assert not grid.separable
    found, expected = LoadAtSpacingd(KEYS, PIXDIM)(case), by_monai(case)
    assert torch.equal(found["image"].as_tensor(), expected["image"].as_tensor())
    assert_same(found["label"], expected["label"], nearest=True)
    assert found["label"].dtype == torch.uint8


@pytest.mark.parametrize("pixdim", [(3.0, 4.0, 9.0), (0.2, 0.3, 0.5), (0.8, 1.3, 4.4), (50.0,) * 3, 1.7, (1.0, 2.0)])
def test_any_spacing_coarser_or_finer(tmp_path: Path, pixdim: Any) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[5]))
    assert_same(LoadAtSpacingd("image", pixdim)(case)["image"], by_monai(case, pixdim)["image"])


@pytest.mark.parametrize("difference", [0.0, 0.0008, 0.003])
def test_a_spacing_that_is_nearly_there_is_treated_as_monai_does(tmp_path: Path, difference: float) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[9]), (40, 30, 20))
    native = np.linalg.norm(nibabel.as_closest_canonical(nibabel.load(case["image"])).affine[:3, :3], axis=0)
    pixdim = tuple(native + difference)
    assert_same(LoadAtSpacingd("image", pixdim)(case)["image"], by_monai(case, pixdim)["image"])


@pytest.mark.parametrize("shape", [(1, 9, 7), (11, 1, 7), (11, 9, 1), (1, 1, 2)])
def test_a_single_slice_is_a_volume(tmp_path: Path, shape: tuple[int, ...]) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[0]), shape)
    assert_same(LoadAtSpacingd("image", PIXDIM)(case)["image"], by_monai(case)["image"])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", "<i4", ">i4", "<f4", ">f4", "<f8"])
def test_every_number_type_and_byte_order(tmp_path: Path, dtype: str, suffix: str) -> None:
    array = np.random.default_rng(0).integers(0, 120, SHAPE).astype(dtype)
    case = {"image": write(tmp_path / f"i{suffix}", array, affine_of(ORIENTATIONS[3]))}
    assert_same(LoadAtSpacingd("image", PIXDIM)(case)["image"], by_monai(case)["image"])


def test_the_scaling_in_a_header_is_applied(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(0, 300, SHAPE)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, affine_of(ORIENTATIONS[0]), header), tmp_path / "i.nii.gz")
    assert nibabel.load(tmp_path / "i.nii.gz").dataobj.slope != 1
    case = {"image": str(tmp_path / "i.nii.gz")}
    assert_same(LoadAtSpacingd("image", PIXDIM)(case)["image"], by_monai(case)["image"])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("trailing", [(), (1,)])
def test_channels_in_one_file(tmp_path: Path, trailing: tuple[int, ...], suffix: str) -> None:
    array = np.random.default_rng(0).normal(size=(*SHAPE, 3, *trailing)).astype(np.float32)
    case = {"image": write(tmp_path / f"i{suffix}", array, affine_of(ORIENTATIONS[7]))}
    assert_same(LoadAtSpacingd("image", PIXDIM, in_channels=3)(case)["image"], by_monai(case, in_channels=3)["image"])


def test_channels_in_one_file_each(tmp_path: Path) -> None:
    rng, affine = np.random.default_rng(0), affine_of(ORIENTATIONS[7])
    paths = [write(tmp_path / f"{name}.nii.gz", rng.normal(size=SHAPE).astype(np.float32), affine) for name in "ab"]
    case = {"image": paths}
    found, expected = LoadAtSpacingd("image", PIXDIM, in_channels=2)(case), by_monai(case, in_channels=2)
    assert_same(found["image"], expected["image"])


def test_a_label_half_way_between_voxels_is_that_of_either(tmp_path: Path) -> None:
    """MONAI rounds such positions after arithmetic in float32, so there, and only there, its choice is arbitrary."""
    case = write_case(tmp_path, affine_of(ORIENTATIONS[0], (1.0, 1.0, 1.0)), (24, 20, 16))
    found, expected = (of(case)["label"] for of in (LoadAtSpacingd(KEYS, 1.5), lambda case: by_monai(case, 1.5)))
    tied = torch.zeros(found.shape[1:], dtype=torch.bool)
    tied[1::2] = tied[:, 1::2] = tied[:, :, 1::2] = True
    different = (found.as_tensor() != expected.as_tensor())[0]
    assert not (different & ~tied).any() and (~tied).any()


@pytest.mark.parametrize("slices", [1, 2, 3])
def test_the_result_does_not_depend_on_the_slabs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[13]), suffix=".nii.gz")
    expected = LoadAtSpacingd(KEYS, PIXDIM)(case)
    monkeypatch.setattr("custom.transforms.load_spaced.slab_depth", lambda *_: slices)
    found = LoadAtSpacingd(KEYS, PIXDIM)(case)
    assert all(torch.equal(found[key].as_tensor(), expected[key].as_tensor()) for key in KEYS)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_file_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    monkeypatch.setattr(spacing, "SLAB_VOXELS", 2**14)
    case = write_case(tmp_path, affine_of(ORIENTATIONS[0]), (128, 128, 100), suffix)
    load = LoadAtSpacingd("image", 4.0)
    load(case)  # what is imported or cached at the first call is no part of it
    tracemalloc.start()
    load(case)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.3 * 2 * 128 * 128 * 100


def test_what_monai_label_needs_of_a_loader(tmp_path: Path) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[0]))
    load = LoadAtSpacingd("image", PIXDIM)
    assert isinstance(load, LoadImaged)
    load._loader.image_only = False
    data = load({"image": case["image"], "image_path": case["image"], "note": 3})
    assert data["image_path"] == case["image"] and data["note"] == 3
    assert data["image_meta_dict"]["filename_or_obj"] == case["image"]
    assert np.allclose(data["image_meta_dict"]["affine"], data["image"].affine)
    assert_same(data["image"], by_monai({"image": case["image"]})["image"])


def test_a_case_without_label_loads_when_keys_may_be_missing(tmp_path: Path) -> None:
    case = write_case(tmp_path, affine_of(ORIENTATIONS[0]))
    assert set(LoadAtSpacingd(KEYS, PIXDIM, allow_missing_keys=True)({"image": case["image"]})) == {"image"}


def test_inverting_it_is_refused_with_what_to_use_instead(tmp_path: Path) -> None:
    case = write_case(tmp_path, affine_of(np.eye(3)))
    chain = Compose([LoadAtSpacingd("image", PIXDIM)])
    data = chain({"image": case["image"]})
    data["pred"] = data["image"]
    with pytest.raises(RuntimeError) as error:
        Invertd("pred", chain, orig_keys="image")(data)
    assert "NativeLabelsd" in str(find_input_error(error.value))
