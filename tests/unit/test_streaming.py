"""Segmenting slab by slab gives the labels of the whole scan at once."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.data.utils import compute_importance_map
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd
from torch import Tensor, nn
from torch.nn import functional

from custom.errors import InputError
from custom.streaming import NativeSlidingWindowInferer, blended_rows, even_windows
from custom.transforms import FileMetad, NativeLabelsd

ROI = (16, 16, 16)


@pytest.fixture
def network() -> nn.Module:
    """Scores of four classes that depend on a neighbourhood and on the place in the window."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv3d(8, 4, 3, padding=1))
    return layers.eval().requires_grad_(False)


def image_of(folder: Path, shape: tuple[int, ...], axcodes: str = "RAS") -> MetaTensor:
    """A batch of one preprocessed image, (1, 1, h, w, d), of a file with these axes and 1 x 1.3 x 2.1 mm voxels."""
    noise = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    order = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(axcodes)
    )
    image = nib.Nifti1Image(noise, np.diag([1, 1.3, 2.1, 1])).as_reoriented(order)
    nib.save(image, folder / "ct.nii")
    keys = ["image"]
    chain = Compose(
        [
            LoadImaged(keys, ensure_channel_first=True),
            Orientationd(keys, axcodes="RAS", labels=None),
            Spacingd(keys, pixdim=(1.5, 1.5, 1.5), dtype=torch.float32),
        ]
    )
    return next(iter(DataLoader(Dataset([{"image": folder / "ct.nii"}], chain), batch_size=1)))["image"]


def plainly(image: MetaTensor, network: nn.Module, overlap: float, mode: str) -> Tensor:
    """The same windows blended over the whole volume, then the labels of all voxels at once."""
    missing = [max(0, roi - size) for roi, size in zip(ROI, image.shape[2:], strict=True)]
    pad = [part for count in missing[::-1] for part in (count // 2, count - count // 2)]
    whole = functional.pad(image.as_tensor(), pad)
    importance = compute_importance_map(ROI, mode)
    total, weight = torch.zeros(4, *whole.shape[2:]), torch.zeros(whole.shape[2:])
    for window in even_windows(whole.shape[2:], ROI, overlap):
        total[(slice(None), *window)] += network(whole[(..., *window)])[0] * importance
        weight[window] += importance
    inside = [slice(count // 2, count // 2 + size) for count, size in zip(missing, image.shape[2:], strict=True)]
    scores = (total / weight)[(slice(None), *inside)]
    return NativeLabelsd("pred")({"image": image[0], "pred": scores})["pred"]


@pytest.mark.parametrize("size", [16, 17, 33, 40, 100])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
def test_windows_cover_the_image_evenly_and_overlap_enough(size: int, overlap: float) -> None:
    windows = even_windows([size, 16], [16, 16], overlap)
    starts = [window[0].start for window in windows]
    steps = np.diff(starts)
    assert starts[0] == 0 and windows[-1][0].stop == size
    assert all(window[1] == slice(0, 16) for window in windows)
    assert len(steps) == 0 or (steps.max() <= np.ceil(16 * (1 - overlap)) and steps.max() - steps.min() <= 1)


@pytest.mark.parametrize("shape", [(40, 37, 50), (20, 45, 9), (21, 12, 61), (8, 9, 7)])
@pytest.mark.parametrize(("overlap", "mode"), [(0.5, "gaussian"), (0.25, "constant"), (0.0, "gaussian")])
def test_labels_equal_those_of_the_whole_volume(
    tmp_path: Path, network: nn.Module, shape: tuple[int, ...], overlap: float, mode: str
) -> None:
    image = image_of(tmp_path, shape)
    labels = NativeSlidingWindowInferer(ROI, 2, overlap, mode)(image, network)
    expected = plainly(image, network, overlap, mode)
    assert labels.dtype == torch.uint8 and labels.shape == (1, *expected.shape) == (1, 1, *shape)
    assert len(expected.unique()) >= 3
    assert (labels[0] != expected).float().mean() < 1e-4  # where two classes tie to within rounding


@pytest.mark.parametrize("axcodes", ["RAS", "LPI", "SAR", "AIL", "IRP"])
def test_labels_lie_on_the_grid_of_files_of_every_orientation(tmp_path: Path, network: nn.Module, axcodes: str) -> None:
    image = image_of(tmp_path, (30, 26, 41), axcodes)
    labels = NativeSlidingWindowInferer(ROI)(image, network)
    assert (labels[0] != plainly(image, network, 0.5, "gaussian")).float().mean() < 1e-4


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_equal_those_of_monai_and_come_in_order(network: nn.Module, axis: int) -> None:
    image = torch.randn(1, 1, 32, 24, 72)  # where MONAI's windows are evenly spread as well
    pieces = list(blended_rows(image, network, ROI, 1, 0.5, "gaussian", axis))
    firsts = [piece.first for piece in pieces]
    assert firsts == sorted(firsts) and len(pieces) > 1
    scores = torch.cat([piece.scores for piece in pieces], dim=1 + axis)
    assert torch.allclose(scores, SlidingWindowInferer(ROI, 1, 0.5, "gaussian")(image, network)[0], atol=1e-5)


def test_no_piece_is_longer_than_a_window(network: nn.Module) -> None:
    pieces = list(blended_rows(torch.randn(1, 1, 16, 16, 200), network, ROI, 1, 0.5, "gaussian"))
    assert sum(piece.scores.shape[-1] for piece in pieces) == 200
    assert max(piece.scores.shape[-1] for piece in pieces) <= ROI[2]


def test_a_rotated_grid_is_put_together_first(tmp_path: Path, network: nn.Module) -> None:
    image = image_of(tmp_path, (30, 26, 41))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    image.meta["original_affine"] = image.meta["original_affine"] @ torch.from_numpy(turn)
    labels = NativeSlidingWindowInferer(ROI)(image, network)
    assert (labels[0] != plainly(image, network, 0.5, "gaussian")).float().mean() < 1e-4


def test_labels_get_affine_and_name_of_the_file(tmp_path: Path, network: nn.Module) -> None:
    image = image_of(tmp_path, (30, 26, 41), "LPS")
    batch = {"image": image, "pred": NativeSlidingWindowInferer(ROI)(image, network)}
    done = FileMetad("pred")(decollate_batch(batch)[0])["pred"]
    file = nib.load(tmp_path / "ct.nii")
    assert done.shape == (1, *file.shape) and np.allclose(done.affine, file.affine)
    assert done.meta["filename_or_obj"] == str(tmp_path / "ct.nii")


def test_several_images_or_none_of_a_file_are_refused(network: nn.Module) -> None:
    with pytest.raises(InputError, match="batch_size"):
        NativeSlidingWindowInferer(ROI)(torch.zeros(2, 1, *ROI), network)
    with pytest.raises(InputError, match="original_affine"):
        NativeSlidingWindowInferer(ROI)(MetaTensor(torch.zeros(1, 1, *ROI)), network)
