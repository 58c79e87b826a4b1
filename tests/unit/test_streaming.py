"""Segmenting slab by slab gives the labels of the whole scan at once."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, LoadImaged, Orientationd, Spacingd
from torch import Tensor, nn

from custom.errors import InputError
from custom.inferers import AutocastInferer
from custom.streaming import NativeSlidingWindowInferer, Rows, blended_rows, labels_of_rows
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
    """MONAI's inferer over the whole volume, then the labels of all voxels at once."""
    scores = SlidingWindowInferer(ROI, 1, overlap, mode)(image, network)
    return NativeLabelsd("pred")({"image": image[0], "pred": scores[0]})["pred"]


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
    image = torch.randn(1, 1, 33, 20, 70)
    pieces = list(blended_rows(image, network, ROI, 1, 0.5, "gaussian", axis))
    firsts = [piece.first for piece in pieces]
    assert firsts == sorted(firsts) and len(pieces) > 1
    scores = torch.cat([piece.scores for piece in pieces], dim=1 + axis)
    assert torch.allclose(scores, SlidingWindowInferer(ROI, 1, 0.5, "gaussian")(image, network)[0], atol=1e-5)


def test_no_piece_is_longer_than_a_window(network: nn.Module) -> None:
    pieces = list(blended_rows(torch.randn(1, 1, 16, 16, 200), network, ROI, 1, 0.5, "gaussian"))
    assert sum(piece.scores.shape[-1] for piece in pieces) == 200
    assert max(piece.scores.shape[-1] for piece in pieces) <= ROI[2]


def test_several_channels_in_bfloat16_give_labels_of_the_plain_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Conv3d(2, 4, 5, padding=2).eval().requires_grad_(False)
    image = image_of(tmp_path, (30, 26, 41))
    two = torch.cat([image, image.flip(2)], dim=1)
    labels = AutocastInferer(NativeSlidingWindowInferer(ROI))(two, network)
    scores = AutocastInferer(SlidingWindowInferer(ROI, 1, 0.5, "gaussian"))(two, network)
    expected = NativeLabelsd("pred")({"image": image[0], "pred": scores[0]})["pred"]
    assert labels.dtype == torch.uint8 and len(labels.unique()) > 1
    assert (labels[0] != expected).float().mean() < 0.01  # MONAI multiplies by the weights in bfloat16


def test_memory_does_not_grow_with_the_scores_of_a_long_scan(network: nn.Module) -> None:
    image = torch.randn(1, 1, 16, 16, 480)
    kept = [weakref.ref(piece.scores) for piece in blended_rows(image, network, ROI, 1, 0.5, "gaussian")]
    assert len(kept) > 20 and not any(scores() is not None for scores in kept)
    oblique = np.eye(4)
    oblique[2, 0] = 2e-5  # 3e-4 voxels over the image: a rounded header
    alive: list[int] = []

    def watched() -> Iterator[Rows]:
        seen = []
        for piece in blended_rows(image, network, ROI, 1, 0.5, "gaussian"):
            alive.append(sum(scores() is not None for scores in seen))
            seen.append(weakref.ref(piece.scores))
            yield piece
            del piece

    labels_of_rows(watched(), 2, image.shape[2:], oblique, image.shape[2:])
    assert max(alive) <= 2


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


def test_labels_alone_get_the_name_of_the_file(tmp_path: Path, network: nn.Module) -> None:
    image = image_of(tmp_path, (30, 26, 41))
    for wrong in (
        torch.zeros(4, 30, 26, 41),
        torch.zeros(1, 30, 26, 41),
        torch.zeros(1, 20, 26, 41, dtype=torch.uint8),
    ):
        with pytest.raises(InputError, match="NativeLabelsd"):
            FileMetad("pred")({"image": image[0], "pred": wrong})


@pytest.mark.parametrize("overlap", [-0.5, 1.0])
def test_an_overlap_that_leaves_gaps_or_no_step_is_refused(overlap: float) -> None:
    with pytest.raises(InputError, match="overlap"):
        NativeSlidingWindowInferer(ROI, overlap=overlap)


def test_several_images_or_none_of_a_file_are_refused(network: nn.Module) -> None:
    with pytest.raises(InputError, match="batch_size"):
        NativeSlidingWindowInferer(ROI)(torch.zeros(2, 1, *ROI), network)
    with pytest.raises(InputError, match="original_affine"):
        NativeSlidingWindowInferer(ROI)(MetaTensor(torch.zeros(1, 1, *ROI)), network)
