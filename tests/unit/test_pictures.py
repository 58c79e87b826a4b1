"""Pictures show the patient the right way round, to scale, and name what they show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from monai.data import MetaTensor

from custom import pictures
from custom.errors import InputError
from custom.transforms.pictures import SaveOverlayd, SaveReconstructiond

NAMES = ["spleen", "liver", "aorta"]
LPI = torch.diag(torch.tensor((-2.0, -1.0, -4.0, 1.0), dtype=torch.float64))
PIR = torch.tensor(((0, 0, 2.0, 5), (-1.0, 0, 0, 7), (0, -4.0, 0, 9), (0, 0, 0, 1)), dtype=torch.float64)


@pytest.fixture
def figure(monkeypatch) -> Callable[[], Figure]:
    """The figure drawn last, as matplotlib holds it."""
    drawn = []
    save = pictures.save_figure
    monkeypatch.setattr(pictures, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    return lambda: drawn[-1]


def meta(volume: np.ndarray, affine: torch.Tensor, path: str = "/data/case3.nii.gz") -> MetaTensor:
    return MetaTensor(torch.from_numpy(volume)[None], affine=affine, meta={"filename_or_obj": path})


def case(affine: torch.Tensor, corner: tuple[int, ...]) -> dict[str, MetaTensor]:
    """A volume of 40 mm a side whose corner of 12 mm at the given end of each patient axis (R, A, S) is organ 2."""
    sizes = torch.linalg.norm(affine[:3, :3], dim=0).numpy()
    shape = tuple((40 / sizes).astype(int))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) + 0.5
    world = (index - np.array(shape) / 2) @ affine[:3, :3].numpy().T
    labels = np.all(world * corner > 8, axis=-1).astype(np.uint8) * 2
    return {"image": meta(labels * 50 + np.float32(1), affine), "pred": meta(labels, affine)}


def organ_box(axis: Axes) -> np.ndarray:
    """Left, top, right, bottom of the coloured pixels as fractions of a panel."""
    rows, columns = np.nonzero(axis.images[1].get_array()[..., 3])
    height, width = axis.images[1].get_array().shape[:2]
    return np.array(
        (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    )


@pytest.mark.parametrize("affine", [LPI, PIR], ids=["LPI", "PIR"])
def test_right_is_left_anterior_and_superior_are_up_whatever_the_orientation_of_the_file(
    affine, figure, tmp_path
) -> None:
    SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path)(case(affine, (1, 1, 1)))
    for axis in figure().axes:
        np.testing.assert_allclose(organ_box(axis), (0, 0, 0.3, 0.3), atol=0.01)
    SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path)(case(affine, (-1, 1, -1)))
    axial, coronal, sagittal = map(organ_box, figure().axes)
    np.testing.assert_allclose(axial, (0.7, 0, 1, 0.3), atol=0.01)
    np.testing.assert_allclose(coronal, (0.7, 0.7, 1, 1), atol=0.01)
    np.testing.assert_allclose(sagittal, (0, 0.7, 0.3, 1), atol=0.01)


def test_a_millimetre_is_equally_long_in_every_panel_and_direction(figure, tmp_path) -> None:
    labels = np.ones((10, 30, 8), dtype=np.uint8)
    spacing = (3.0, 0.8, 5.0)
    pictures.draw_overlay(labels * 1.0, labels, spacing, dict(enumerate(NAMES, 1)), tmp_path / "a.png")
    extents = np.multiply(labels.shape, spacing)
    inches = figure().get_size_inches()
    for axis, sides in zip(figure().axes, ((0, 1), (0, 2), (1, 2)), strict=True):
        panel = np.array(axis.get_position().size) * inches
        np.testing.assert_allclose(panel / extents[list(sides)], panel[0] / extents[sides[0]], rtol=1e-6)
    sides = zip(figure().axes, (0, 0, 1), strict=True)
    lengths = [axis.get_position().width * inches[0] / extents[side] for axis, side in sides]
    assert np.ptp(lengths) < 1e-6


def test_the_slices_pass_through_the_most_labelled_voxels(figure, tmp_path) -> None:
    labels = np.zeros((12, 12, 12), dtype=np.uint8)
    labels[1:4, 2:6, 9] = 1
    labels[2, 5, 3:10] = 3
    pictures.draw_overlay(np.zeros(labels.shape), labels, (1, 1, 1), dict(enumerate(NAMES, 1)), tmp_path / "a.png")
    shown = [int((axis.images[1].get_array()[..., 3] > 0).sum()) for axis in figure().axes]
    assert shown == [np.count_nonzero(labels[:, :, 9]), np.count_nonzero(labels[:, 5]), np.count_nonzero(labels[2])]


def test_the_legend_names_the_organs_present_and_no_others(figure, tmp_path) -> None:
    labels = np.zeros((8, 8, 8), dtype=np.uint8)
    pictures.draw_overlay(labels * 1.0, labels, (1, 1, 1), dict(enumerate(NAMES, 1)), tmp_path / "empty.png")
    assert not figure().legends
    labels[0, 0, 0], labels[4:, 4:, 4:] = 3, 1
    pictures.draw_overlay(labels * 1.0, labels, (1, 1, 1), dict(enumerate(NAMES, 1)), tmp_path / "a.png")
    assert [text.get_text() for text in figure().legends[0].get_texts()] == ["spleen", "aorta"]


def test_the_reference_is_shown_below_the_prediction_in_the_same_slices(figure, tmp_path) -> None:
    labels, reference = np.zeros((2, 8, 8, 8), dtype=np.uint8)
    labels[1:3, 1:3, 1:3], reference[4:7, 4:7, 5] = 1, 3
    names = dict(enumerate(NAMES, 1))
    pictures.draw_overlay(labels * 1.0, labels, (1, 1, 1), names, tmp_path / "a.png", reference=reference)
    axes = figure().axes
    assert [axis.get_ylabel() for axis in axes] == ["prediction", "", "", "reference", "", ""]
    shown = [int((axis.images[1].get_array()[..., 3] > 0).sum()) for axis in axes]
    assert shown == [0, 0, 0, 9, 3, 3]  # slices through the reference, where nothing was predicted
    assert [text.get_text() for text in figure().legends[0].get_texts()] == ["spleen", "aorta"]


def test_an_image_on_another_grid_is_shown_under_the_labels(figure, tmp_path) -> None:
    data = case(LPI, (1, 1, 1))
    SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path)(data)
    same_grid = [axis.images[0].get_array().copy() for axis in figure().axes]
    other = case(PIR, (1, 1, 1))["image"]
    # both volumes are centred on the same point of the patient
    for volume in (data["pred"], other):
        centre = volume.affine[:3, :3] @ ((torch.tensor(volume.shape[1:]) - 1) / 2).double()
        volume.affine[:3, 3] = -centre
    SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path)({"image": other, "pred": data["pred"]})
    for axis, expected in zip(figure().axes, same_grid, strict=True):
        np.testing.assert_allclose(axis.images[0].get_array(), expected, atol=1e-3)


def test_masked_patches_have_a_flat_colour_and_all_rows_one_window(figure, tmp_path) -> None:
    image = np.random.default_rng(0).random((8, 8, 8)).astype(np.float32)
    masked = np.zeros(image.shape, dtype=bool)
    masked[:4, :, 4:] = True
    pictures.draw_reconstruction(image, masked, image * 0.5, (1, 1, 1), tmp_path / "a.png", window=(0.1, 0.8))
    axes = figure().axes
    assert len(axes) == 9 and {axis.images[0].get_clim() for axis in axes} == {(0.1, 0.8)}
    grey = to_rgb(pictures.MASKED_COLOUR)
    assert max(grey) - min(grey) < 0.15 and min(grey) > 0.3
    axial = axes[3].images[1].get_array()
    # the patient's left, voxels 0 to 3, is on the right of the picture
    assert (axial[:, 4:] == (*grey, 1)).all() and (axial[:, :4, 3] == 0).all()
    assert [len(axis.images) for axis in axes] == [1, 1, 1, 2, 2, 2, 1, 1, 1]
    np.testing.assert_array_equal(axes[8].images[0].get_array(), (image[4] * np.float32(0.5)).T[::-1, ::-1])


def test_the_transforms_write_one_picture_a_case_and_change_nothing(tmp_path) -> None:
    data = case(PIR, (1, 1, 1))
    data["visible"] = torch.ones_like(data["pred"])
    data["reconstruction"] = data["image"].to(torch.bfloat16)
    before = {key: value.clone() for key, value in data.items()}
    chain = (
        SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path / "out"),
        SaveReconstructiond("reconstruction", tmp_path / "out"),
    )
    for transform in chain:
        assert transform(data) is data
    assert all(torch.equal(data[key], before[key]) for key in before)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["case3_overlay.png", "case3_reconstruction.png"]
    assert all(np.ptp(imread(tmp_path / "out" / name)) > 0.5 for name in files)


def test_a_picture_without_orientation_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="orientation"):
        SaveOverlayd("pred", dict(enumerate(NAMES, 1)), tmp_path)(
            {"image": torch.zeros(1, 4, 4, 4), "pred": torch.zeros(1, 4, 4, 4)}
        )
