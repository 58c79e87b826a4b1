"""Loading: what comes out of sound files; test_bad_input_data.py has the faulty ones."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged, SaveImage

from custom.errors import InputError
from custom.transforms import LoadVolumed
from custom.transforms.checks import (
    check_affine,
    check_image,
    check_same_grid,
    check_shape,
    check_spacing,
    integer_label,
)

AFFINE = np.array([[0.0, -0.8, 0, 5], [0.7, 0, 0, -9], [0, 0, 2.5, 30], [0, 0, 0, 1]])
FILE = Path("case.nii.gz")


def write(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> str:
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return str(path)


@pytest.fixture
def case(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {
        "image": write(tmp_path / "i.nii.gz", rng.integers(-1000, 1000, (6, 7, 8)).astype(np.int16)),
        "label": write(tmp_path / "l.nii.gz", rng.integers(0, 14, (6, 7, 8)).astype(np.uint8)),
    }


def test_voxels_affine_and_types_are_those_of_the_file(case: dict[str, str]) -> None:
    data = LoadVolumed(["image", "label"], num_classes=14)(case)
    image, label = data["image"], data["label"]
    assert isinstance(image, MetaTensor) and isinstance(label, MetaTensor)
    assert (image.shape, image.dtype, label.dtype) == ((1, 6, 7, 8), torch.float32, torch.uint8)
    assert np.array_equal(image[0].numpy(), nibabel.load(case["image"]).get_fdata())
    assert np.array_equal(label[0].numpy(), nibabel.load(case["label"]).get_fdata())
    assert np.allclose(image.affine, AFFINE)
    assert image.meta["filename_or_obj"] == case["image"]


def test_trailing_axes_of_length_one_are_dropped(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    path = write(tmp_path / "i.nii.gz", volume[..., None, None])
    assert np.array_equal(LoadVolumed("image")({"image": path})["image"].numpy(), volume[None])


def test_channels_come_first(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(4, 5, 6, 3)).astype(np.float32)
    image = LoadVolumed("image", in_channels=3)({"image": write(tmp_path / "i.nii.gz", volume)})["image"]
    assert np.array_equal(image.numpy(), np.moveaxis(volume, -1, 0))


def test_a_big_endian_file_loads(tmp_path: Path) -> None:
    array = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nibabel.save(nibabel.Nifti1Image(array, AFFINE, header), tmp_path / "i.nii")
    image = LoadVolumed("image")({"image": str(tmp_path / "i.nii")})["image"]
    assert image[0].int().tolist() == array.tolist()


def test_a_float_label_of_whole_numbers_becomes_integers(tmp_path: Path) -> None:
    path = write(tmp_path / "l.nii", np.array([0.0, 1, 13]).reshape(1, 1, 3))
    assert LoadVolumed("label")({"label": path})["label"].dtype == torch.uint8


def test_with_image_only_off_the_metadata_comes_beside_and_other_keys_stay(case: dict[str, str]) -> None:
    load = LoadVolumed("image")
    assert isinstance(load, LoadImaged)
    load._loader.image_only = False
    data = load({"image": case["image"], "image_path": case["image"], "note": 3})
    assert data["image_path"] == case["image"] and data["note"] == 3
    assert data["image_meta_dict"]["filename_or_obj"] == case["image"]
    assert data["image"].shape == (1, 6, 7, 8)


def test_a_case_without_label_loads_when_keys_may_be_missing(case: dict[str, str]) -> None:
    data = LoadVolumed(["image", "label"], allow_missing_keys=True)({"image": case["image"]})
    assert set(data) == {"image"}


def test_what_is_loaded_can_be_saved_on_the_same_grid(case: dict[str, str], tmp_path: Path) -> None:
    image = LoadVolumed("image")(case)["image"]
    SaveImage(output_dir=tmp_path, output_postfix="copy", separate_folder=False, print_log=False)(image)
    assert np.allclose(nibabel.load(tmp_path / "i_copy.nii.gz").affine, AFFINE)


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 1), (4, 5, 1)])
def test_check_shape_accepts_volumes(shape: tuple[int, ...]) -> None:
    check_shape(shape, 1, FILE)


@pytest.mark.parametrize(
    ("shape", "channels"), [((4, 5), 1), ((4, 5, 6, 2), 1), ((4, 5, 6), 4), ((4, 5, 6, 1, 4), 4), ((0, 5, 6), 1)]
)
def test_check_shape_refuses_other_axes(shape: tuple[int, ...], channels: int) -> None:
    with pytest.raises(InputError, match=r"case\.nii\.gz has shape"):
        check_shape(shape, channels, FILE)


@pytest.mark.parametrize("spacing", [(1, 1, 0), (1, -1, 1), (1, np.nan, 1)])
def test_check_spacing_refuses_what_is_not_positive(spacing: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="spacing"):
        check_spacing(np.array(spacing), FILE)


def test_check_affine_accepts_oblique_and_tiny_voxels() -> None:
    oblique = np.eye(4)
    oblique[:2, :2] = [[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]]
    check_affine(oblique, FILE)
    check_affine(np.diag([1e-4, 1e-4, 1e-4, 1]), FILE)


@pytest.mark.parametrize("column", [[0, 0, 0], [1, 0, 0], [np.nan, 0, 1], [np.inf, 0, 1]])
def test_check_affine_refuses_what_cannot_be_inverted(column: list[float]) -> None:
    affine = np.eye(4)
    affine[:3, 2] = column
    with pytest.raises(InputError, match="affine"):
        check_affine(affine, FILE)


@pytest.mark.parametrize("code", [0, 1])
def test_a_sform_that_monai_would_replace_by_the_qform_is_refused(tmp_path: Path, code: int) -> None:
    image = nibabel.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), np.diag([1.0, 2, 3, 1]))
    image.set_qform(np.diag([1.0, 1, 3, 1]), code)  # sets the header's voxel sizes too, which are no longer the sform's
    nibabel.save(image, tmp_path / "i.nii")
    assert np.array_equal(LoadImaged("image")({"image": tmp_path / "i.nii"})["image"].pixdim, [1, 1, 3])
    with pytest.raises(InputError, match="disagree about where"):
        LoadVolumed("image")({"image": str(tmp_path / "i.nii")})


def test_voxel_sizes_that_differ_by_rounding_are_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), np.diag([0.7, 0.7, 3, 1]))
    image.set_qform(np.diag([0.7001, 0.7, 3, 1]), 1)
    nibabel.save(image, tmp_path / "i.nii")
    assert LoadVolumed("image")({"image": str(tmp_path / "i.nii")})["image"].pixdim[0] == pytest.approx(0.7, abs=1e-3)


def test_check_image_counts_bad_voxels() -> None:
    image = torch.arange(8.0).reshape(1, 2, 2, 2)
    image[0, 0, 0] = torch.tensor([np.nan, -np.inf])
    with pytest.raises(InputError, match=r"case\.nii\.gz has 2 NaN or infinite voxels"):
        check_image(image, FILE)


def test_integer_label_reports_the_ids_it_found() -> None:
    label = MetaTensor(torch.tensor([0.0, 3, 14]).reshape(1, 1, 1, 3))
    assert integer_label(label, FILE, 15).tolist() == [[[[0, 3, 14]]]]
    with pytest.raises(InputError, match="ids from 0 to 14 where 0 to 13 is allowed"):
        integer_label(label, FILE, 14)


@pytest.mark.parametrize(("shift", "accepted"), [(0.0005, True), (0.05, False)])
def test_the_affine_tolerance_is_a_thousandth_of_the_voxel(shift: float, accepted: bool) -> None:
    moved = AFFINE.copy()
    moved[0, 3] += shift
    meta = {"spatial_shape": [2, 2, 2]}
    image, label = (MetaTensor(torch.zeros(1, 2, 2, 2), affine, meta) for affine in (AFFINE, moved))
    if accepted:
        check_same_grid(image, label, FILE)
    else:
        with pytest.raises(InputError, match="another affine"):
            check_same_grid(image, label, FILE)
