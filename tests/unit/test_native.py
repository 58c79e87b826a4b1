"""Predictions return to the voxel grid of the input file."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, CropForegroundd, LoadImaged, Orientationd, SaveImaged, Spacingd
from scipy.ndimage import center_of_mass, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from custom.errors import InputError
from custom.pictures import to_ras
from custom.resampling import image_to_native, labels_to_native
from custom.transforms.native import NativeImaged, NativeLabelsd
from custom.transforms.pictures import slices_on_grid

GRID = (20, 17, 23)
FLIPS = list(product((1, -1), repeat=3))
ORIENTATIONS = [(order, FLIPS[index % 8]) for index, order in enumerate(permutations(range(3)))] + [
    ((0, 1, 2), FLIPS[7])
]


def smooth_logits(channels: int = 5, grid: tuple[int, ...] = GRID, seed: int = 0) -> torch.Tensor:
    noise = np.random.default_rng(seed).standard_normal((channels, *grid))
    return torch.from_numpy(np.stack([gaussian_filter(channel, 1.5) for channel in noise]).astype(np.float32))


def positions(to_grid: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(3, -1)
    return (to_grid[:3, :3] @ index + to_grid[:3, 3:]).reshape(3, *shape)


def dense(volume: torch.Tensor, to_grid: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Every channel at every native voxel (scipy, float64), and which voxels are inside."""
    where = positions(to_grid, shape)
    values = [map_coordinates(channel.double().numpy(), where, order=1, mode="nearest") for channel in volume]
    limits = np.array(volume.shape[1:]).reshape(3, 1, 1, 1) - 0.5
    return np.stack(values), ((where >= -0.5 - 1e-4) & (where <= limits + 1e-4)).all(axis=0)


def assert_equals_dense(logits: torch.Tensor, to_grid: np.ndarray, shape: tuple[int, ...]) -> None:
    values, inside = dense(logits, to_grid, shape)
    expected = np.where(inside, values.argmax(axis=0), 0)
    native = labels_to_native(logits, to_grid, shape)
    assert native.dtype == torch.uint8 and tuple(native.shape) == shape
    different = native.numpy() != expected
    two = np.sort(values, axis=0)[-2:]
    assert np.all((two[1] - two[0])[different] < 1e-5), "labels differ where there is no tie"
    assert different.mean() < 1e-4
    assert len(np.unique(expected)) > 1 and inside.any()


def axis_aligned(
    order: tuple[int, ...], flips: tuple[int, ...], scale: tuple[float, ...]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """A native grid of permuted, flipped axes that is `scale` times as fine as GRID and reaches a little beyond it."""
    to_grid, shape = np.eye(4), [0, 0, 0]
    to_grid[:3, :3] = 0
    for axis, (source, flip) in enumerate(zip(order, flips, strict=True)):
        step = flip / scale[source]
        shape[axis] = int(GRID[source] * scale[source]) + 4
        to_grid[source, axis] = step
        to_grid[source, 3] = -1.3 if flip > 0 else GRID[source] + 0.2
    return to_grid, tuple(shape)


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_sparse_labels_equal_dense_interpolation_for_permuted_and_flipped_axes(order, flips) -> None:
    assert_equals_dense(smooth_logits(), *axis_aligned(order, flips, (2.0, 1.9, 0.7)))


def test_sparse_labels_equal_dense_interpolation_for_an_oblique_and_sheared_map() -> None:
    to_grid = np.eye(4)
    to_grid[:3, :3] = Rotation.from_euler("xyz", (12, -7, 20), degrees=True).as_matrix() @ np.diag((0.55, 0.5, 1.2))
    to_grid[0, 1] += 0.1
    to_grid[:3, 3] = (2.0, -3.0, 1.0)
    assert_equals_dense(smooth_logits(), to_grid, (40, 37, 18))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_the_labels_of_their_own_values(dtype) -> None:
    logits = smooth_logits().to(dtype)
    to_grid, shape = axis_aligned((2, 0, 1), (1, -1, 1), (1.5, 1.5, 1.5))
    assert torch.equal(labels_to_native(logits, to_grid, shape), labels_to_native(logits.float(), to_grid, shape))


def test_the_result_does_not_depend_on_the_slab_or_chunk_size(monkeypatch) -> None:
    to_grid, shape = axis_aligned((1, 0, 2), (1, 1, -1), (2.0, 1.9, 1.3))
    whole = labels_to_native(smooth_logits(), to_grid, shape)
    image = image_to_native(smooth_logits(), to_grid, shape)
    monkeypatch.setattr("custom.resampling.SLAB_VOXELS", 5000)
    monkeypatch.setattr("custom.resampling.CHUNK_VOXELS", 101)
    assert torch.equal(labels_to_native(smooth_logits(), to_grid, shape), whole)
    assert torch.equal(image_to_native(smooth_logits(), to_grid, shape), image)


def test_a_constant_winner_fills_the_grid_and_outside_is_background() -> None:
    logits = torch.zeros(4, 4, 5, 6)
    logits[3] = 1
    shift = np.eye(4)
    shift[:3, 3] = (-2, 0, 0)
    native = labels_to_native(logits, shift, (10, 5, 6))
    assert (native[2:6] == 3).all() and (native[:2] == 0).all() and (native[6:] == 0).all()


def test_half_a_voxel_beyond_the_border_takes_the_border_and_more_is_background() -> None:
    logits = torch.zeros(2, 4, 3, 3)
    logits[1] = 1
    half = np.diag((0.25, 1.0, 1.0, 1.0))
    half[0, 3] = -1
    native = labels_to_native(logits, half, (24, 3, 3))[:, 0, 0]
    expected = [-0.5 <= 0.25 * index - 1 <= 3.5 for index in range(24)]
    assert native.bool().tolist() == expected


def test_axes_of_a_single_voxel_are_allowed() -> None:
    logits = smooth_logits(grid=(9, 1, 8))
    native = labels_to_native(logits, np.diag((0.5, 1.0, 0.5, 1.0)), (17, 1, 15))
    values, _ = dense(logits, np.diag((0.5, 1.0, 0.5, 1.0)), (17, 1, 15))
    assert (native.numpy() == values.argmax(axis=0)).mean() > 0.999


def test_images_equal_dense_interpolation_and_are_filled_outside() -> None:
    image = smooth_logits(2) * 100
    to_grid, shape = axis_aligned((2, 1, 0), (-1, 1, 1), (2.0, 1.9, 0.7))
    values, inside = dense(image, to_grid, shape)
    native = image_to_native(image, to_grid, shape, fill=-1024).numpy()
    np.testing.assert_allclose(native, np.where(inside, values, -1024), atol=1e-3)
    assert not inside.all()


def test_more_classes_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(InputError, match="255 classes"):
        labels_to_native(torch.zeros(256, 2, 2, 2), np.eye(4), (2, 2, 2))


def test_an_image_that_lost_its_file_metadata_is_refused() -> None:
    with pytest.raises(InputError, match="original_affine"):
        NativeLabelsd("pred")({"image": torch.zeros(1, 2, 2, 2), "pred": torch.zeros(2, 2, 2, 2)})


def test_a_prediction_without_affine_lies_on_the_grid_of_its_image() -> None:
    affine = np.diag((2.0, 2.0, 2.0, 1.0))
    meta = {
        "original_affine": np.diag((1.0, 2.0, 4.0, 1.0)),
        "spatial_shape": np.array((13, 7, 4)),
        "filename_or_obj": "a",
    }
    image = MetaTensor(torch.zeros(1, 7, 7, 7), affine=torch.from_numpy(affine), meta=meta)
    logits = smooth_logits(3, (7, 7, 7))
    known = NativeLabelsd("pred")({"image": image, "pred": MetaTensor(logits, affine=torch.from_numpy(affine))})["pred"]
    for lost in (logits, MetaTensor(logits)):
        assert torch.equal(NativeLabelsd("pred")({"image": image, "pred": lost})["pred"].as_tensor(), known.as_tensor())


def marker_volume(folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """Anisotropic, rotated, axes P-I-R, stored as float32: two balls of value 1 in low noise -> path, balls, affine."""
    shape = (48, 40, 30)
    rotation = Rotation.from_euler("xyz", (6, -4, 8), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([[0, 0, 2.5], [-0.8, 0, 0], [0, -1.1, 0]])
    affine[:3, 3] = (31.5, -20.25, 100.0)
    balls = np.zeros(shape)
    for centre, radius in (((14, 12, 9), 9), ((34, 27, 21), 10)):
        offset = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - centre
        balls[np.linalg.norm(offset * (0.8, 1.1, 2.5), axis=-1) < radius] = 1
    image = gaussian_filter(balls, 0.5) + 0.02 * np.random.default_rng(0).random(shape)
    path = folder / "case7.nii.gz"
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), path)
    return path, balls > 0, nib.load(path).affine


def test_markers_come_back_to_the_same_voxels_through_a_whole_evaluator(tmp_path) -> None:
    path, balls, affine = marker_volume(tmp_path)
    preprocessing = Compose(
        [
            LoadImaged("image", ensure_channel_first=True),
            Orientationd("image", axcodes="RAS"),
            Spacingd("image", pixdim=(1.5, 1.5, 2.0)),
            CropForegroundd("image", source_key="image", select_fn=lambda x: x > 0.3, margin=4),
        ]
    )
    postprocessing = Compose(
        [
            NativeLabelsd("pred", output_keys="labels"),
            NativeImaged("image", output_keys="restored", fill=-1.0),
            SaveImaged(
                "labels",
                output_dir=tmp_path / "out",
                output_dtype="uint8",
                resample=False,
                separate_folder=False,
                print_log=False,
            ),
        ]
    )
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": str(path)}], preprocessing), batch_size=1),
        network=lambda image: torch.cat([0.5 - image, image - 0.5], dim=1),
        inferer=SlidingWindowInferer((16, 16, 16), overlap=0.25),
        postprocessing=postprocessing,
    )
    evaluator.run()
    labels, restored = (evaluator.state.output[0][key] for key in ("labels", "restored"))

    saved = nib.load(tmp_path / "out" / "case7_trans.nii.gz")
    assert saved.shape == balls.shape and saved.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(saved.affine, affine)
    np.testing.assert_array_equal(np.asarray(saved.dataobj), labels[0].numpy())
    assert labels.meta["filename_or_obj"] == str(path)

    found = labels[0].numpy() > 0
    assert 2 * (found & balls).sum() / (found.sum() + balls.sum()) > 0.9
    for side in (slice(None, 24), slice(24, None)):
        np.testing.assert_allclose(center_of_mass(found[side]), center_of_mass(balls[side]), atol=0.3)

    image, inside = nib.load(path).get_fdata(), restored[0].numpy() > -1
    assert inside[balls].all() and not inside.all()
    assert np.abs(image - restored[0].numpy())[inside].mean() < 0.03


@pytest.mark.parametrize(("order", "flips"), ORIENTATIONS)
def test_slices_are_those_of_the_whole_image_on_the_grid_of_the_labels(order, flips) -> None:
    to_grid, shape = axis_aligned(order, flips, (2.0, 1.9, 0.7))
    image = MetaTensor(smooth_logits(1), affine=torch.diag(torch.tensor([1.5, 1.2, 2.0, 1.0], dtype=torch.float64)))
    labels = MetaTensor(torch.zeros(1, *shape), affine=image.affine @ torch.from_numpy(to_grid))
    whole = image_to_native(image.as_tensor(), to_grid, shape, float(image.min()))[0].numpy()
    expected, _ = to_ras(whole, labels.affine.numpy())
    take = slices_on_grid(image, labels)
    for axis, size in enumerate(expected.shape):
        assert np.allclose(take(size // 3, axis), np.take(expected, size // 3, axis=axis), atol=1e-5)
