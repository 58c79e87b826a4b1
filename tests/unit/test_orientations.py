"""A marker in each octant of the patient comes back to its voxels, whatever the axes of the file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from custom.transforms import LoadAtSpacingd, NativeLabelsd
from scripts.tiny import ROOT

FLIPS = list(product((1, -1), repeat=3))
ORIENTATIONS = [(order, flips) for order in permutations(range(3)) for flips in FLIPS]
OCTANTS = np.array(FLIPS)
SHAPE, LARGER = (22, 26, 30), (36, 40, 44)
ORIGIN = (31.5, -20.25, 100.0)
LEVELS = np.linspace(-175, 250, 10)  # what the window of the bundle makes 0, 1/9, ... 1: air, tissue and 8 markers


def axis_aligned(order: Sequence[int], flips: Sequence[int], spacing: Sequence[float] = (1, 1, 1)) -> NDArray:
    """Axes of a file along those of the patient."""
    return np.eye(3)[:, list(order)] * flips * spacing


def turned(angles: Sequence[float], spacing: Sequence[float], shear: float = 0) -> NDArray:
    """Axes of a file turned by `angles` degrees, the slices shifted as by a tilted gantry."""
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    axes[:, 2] += shear * axes[:, 1]
    return axes * spacing


def markers(axes: NDArray, shape: Sequence[int] = SHAPE) -> tuple[NDArray[np.uint8], NDArray]:
    """Labels 1 to 8, a block in each octant of the patient, smaller ones with higher labels, and the affine."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, ORIGIN
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    centred = (index - (np.array(shape) - 1) / 2) @ axes.T  # mm from the middle, along the patient's axes
    extent = np.abs(axes * (np.array(shape) - 1) / 2).max(axis=1) / 2  # where the middle of an octant is
    labels = np.zeros(shape, dtype=np.uint8)
    for number, octant in enumerate(OCTANTS):
        inside = np.abs(centred - octant * extent) <= extent * (0.75 - 0.02 * number)
        labels[inside.all(axis=-1)] = number + 1
    return labels, affine


def write(path: Path, voxels: NDArray, affine: NDArray, forms: str = "both") -> None:
    """A NIfTI file whose affine is in the sform, the qform or both."""
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1 if forms != "qform" else 0)
    image.set_qform(affine if forms != "sform" else None, 1 if forms != "sform" else 0)
    nibabel.save(image, path)


class ByIntensity(nn.Module):
    """Class k where the intensity is nearest to level k + 1 of ten from 0 to 1: a prediction that follows its input."""

    def forward(self, image: Tensor) -> Tensor:
        levels = torch.linspace(0, 1, 10)[1:].reshape(1, -1, 1, 1, 1)
        return -((image - levels) ** 2)


def segment(bundle: str, case: Path, output: Path, network: nn.Module, **options: Any) -> nibabel.Nifti1Image:
    """The bundle's own inference of one case with `network` in place of its own -> the file that it wrote."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / bundle / "configs" / "inference.json"))
    plain = {"dataset_dir": str(case), "output_dir": str(output), "handlers": [], "amp": False, "img_size": [16] * 3}
    for key, value in {**plain, "device": torch.device("cpu"), "predictor": network, **options}.items():
        parser[key] = value
    parser.get_parsed_content("evaluator").run()
    (written,) = output.glob("*.nii.gz")
    return nibabel.load(written)


def ct(
    folder: Path, axes: NDArray, spacing: float, forms: str = "both", shape: Sequence[int] = SHAPE
) -> tuple[NDArray, NDArray]:
    """Labels of a CT of markers, and what the bundle makes of it; shape and affine are those of the file."""
    labels, affine = markers(axes, shape)
    write(folder / "case.nii.gz", LEVELS[labels + 1].astype(np.float32), affine, forms)
    options = {"spacing": [spacing] * 3, "intensity_range": [LEVELS[0], LEVELS[-1]]}
    written = segment("unetr_btcv", folder / "case.nii.gz", folder / "out", ByIntensity(), **options)
    given = nibabel.load(folder / "case.nii.gz")
    assert written.shape == given.shape and written.get_data_dtype() == np.uint8
    np.testing.assert_allclose(written.affine, given.affine, rtol=0, atol=1e-4)
    np.testing.assert_allclose(given.affine, affine, rtol=0, atol=1e-4)
    return labels, np.asarray(written.dataobj)


def sure(labels: NDArray, reach: Sequence[int]) -> NDArray[np.bool_]:
    """Voxels whose surroundings, `reach` voxels along each axis, have their label.

    Two trilinear interpolations lead there and back, and each looks no further than one voxel of its source: further
    away than a voxel of the file and one of the network's grid, nothing has a say.
    """
    size = [2 * count + 1 for count in reach]
    return maximum_filter(labels, size) == minimum_filter(labels, size)


def assert_found(labels: NDArray, found: NDArray, reach: Sequence[int]) -> None:
    """Every marker lies where it was, but for the voxels at its surface."""
    inside = sure(labels, reach)
    assert set(np.unique(labels[inside])) == set(range(9)), "a marker without an inside tests nothing"
    np.testing.assert_array_equal(found[inside], labels[inside])


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_every_voxel_comes_back_in_all_48_orientations(
    tmp_path: Path, order: Sequence[int], flips: Sequence[int]
) -> None:
    labels, found = ct(tmp_path, axis_aligned(order, flips), spacing=1)
    np.testing.assert_array_equal(found, labels)
    assert set(np.unique(labels)) == set(range(9))


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::5])
def test_markers_come_back_from_another_spacing(tmp_path: Path, order: Sequence[int], flips: Sequence[int]) -> None:
    spacing = np.array((0.8, 1.0, 1.3))
    labels, found = ct(tmp_path, axis_aligned(order, flips, spacing), spacing=1.1)
    assert_found(labels, found, np.floor(1 + 1.1 / spacing).astype(int))


@pytest.mark.parametrize("forms", ["both", "sform", "qform"])
@pytest.mark.parametrize("angles", [(10, 0, 0), (0, 20, 0), (0, 0, 30), (12, -17, 25), (170, 15, -100)])
def test_markers_come_back_from_an_oblique_grid(tmp_path: Path, angles: Sequence[float], forms: str) -> None:
    spacing = np.array((0.9, 1.0, 1.2))
    labels, found = ct(tmp_path, turned(angles, spacing), 1.1, forms, LARGER)
    assert_found(labels, found, np.floor(1 + 1.1 / spacing).astype(int))


@pytest.mark.parametrize("shear", [-0.3, 0.2])
def test_markers_come_back_from_slices_of_a_tilted_gantry(tmp_path: Path, shear: float) -> None:
    """Whose grid is straightened, so that a voxel of it may lie along any direction of the file's."""
    labels, found = ct(tmp_path, turned((5, 0, 8), (1, 1, 1), shear), 1, "sform", LARGER)
    assert_found(labels, found, (3, 3, 3))


@pytest.mark.parametrize("form", ["sform", "qform"])
def test_where_sform_and_qform_disagree_the_sform_holds_as_in_nibabel(tmp_path: Path, form: str) -> None:
    """A qform holds where there is no sform."""
    labels, affine = markers(axis_aligned((1, 0, 2), (1, -1, 1)))
    other = np.diag((-1.0, 1.0, 1.0, 1.0))
    image = nibabel.Nifti1Image(LEVELS[labels + 1].astype(np.float32), affine)
    image.set_sform(affine if form == "sform" else other, 2 if form == "sform" else 0)
    image.set_qform(other if form == "sform" else affine, 1)
    nibabel.save(image, tmp_path / "case.nii.gz")
    options = {"spacing": [1, 1, 1], "intensity_range": [LEVELS[0], LEVELS[-1]]}
    written = segment("unetr_btcv", tmp_path / "case.nii.gz", tmp_path / "out", ByIntensity(), **options)
    np.testing.assert_allclose(written.affine, affine, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS[::5])
def test_the_way_back_of_evaluations_finds_every_voxel(
    tmp_path: Path, order: Sequence[int], flips: Sequence[int]
) -> None:
    labels, affine = markers(axis_aligned(order, flips))
    write(tmp_path / "case.nii", LEVELS[labels + 1].astype(np.float32) / 250, affine)
    item = LoadAtSpacingd("image", 1)({"image": str(tmp_path / "case.nii")})
    item["pred"] = ByIntensity()((item["image"].as_tensor()[None] * 250 + 175) / 425)[0]
    back = NativeLabelsd("pred")(item)["pred"]
    np.testing.assert_array_equal(back[0].numpy(), labels)
    np.testing.assert_allclose(back.affine, affine, rtol=0, atol=1e-5)


class ByContrast(nn.Module):
    """Scores of TC, WT and ET: where T1w, FLAIR and T1gd are above the mean of the head."""

    def forward(self, image: Tensor) -> Tensor:
        return image[:, [1, 0, 2]] - 0.01


@pytest.mark.parametrize("index", [0, 11, 22, 29, 33, 47])
def test_every_voxel_of_a_tumour_comes_back_in_four_contrasts(tmp_path: Path, index: int) -> None:
    """Numbered 1 oedema, 2 non-enhancing and 3 enhancing tumour, octant by octant."""
    octants, affine = markers(axis_aligned(*ORIENTATIONS[index]))
    labels = np.where(octants > 0, octants % 3 + 1, 0)
    head = np.zeros(SHAPE)
    head[2:-1, 3:-1, 1:-2] = 50
    contrasts = [head + 100 * (labels >= least) for least in (1, 2, 3)]  # FLAIR, T1w, T1gd; and T2w
    write(tmp_path / "case.nii.gz", np.stack([*contrasts, contrasts[0]], axis=-1).astype(np.float32), affine)
    options = {"spacing": [1, 1, 1], "label_convention": "msd"}
    written = segment("unetr_brats", tmp_path / "case.nii.gz", tmp_path / "out", ByContrast(), **options)
    assert written.shape == SHAPE and set(np.unique(labels)) == {0, 1, 2, 3}
    np.testing.assert_allclose(written.affine, affine, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), labels)
