"""The CT phantoms: anatomy, determinism, BTCV layout, and how hard they are for a model without context."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_fill_holes, center_of_mass

from custom.data.phantoms import ct
from custom.data.phantoms.ct import ORGANS, btcv_numbers, generate_ct, write_btcv
from custom.errors import InputError

SHAPE, SPACING = (96, 84, 72), (4.0, 4.0, 4.0)
TINY = {"shape": (32, 28, 24), "spacing": (12.0, 12.0, 12.0)}


@pytest.fixture(scope="module")
def cases() -> list[tuple[np.ndarray, np.ndarray]]:
    return [generate_ct(5, index, SHAPE, SPACING) for index in range(6)]


def centre(label: np.ndarray, organ: str) -> np.ndarray:
    return np.array(center_of_mass(label == ORGANS[organ]))


def test_a_case_depends_on_seed_and_index_alone() -> None:
    first = generate_ct(1, 3, **TINY)
    generate_ct(1, 4, **TINY)
    again = generate_ct(1, 3, **TINY)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], generate_ct(2, 3, **TINY)[1])
    assert not np.array_equal(first[1], generate_ct(1, 4, **TINY)[1])


def test_dtypes_and_ranges_are_those_of_a_scan(cases: list) -> None:
    for image, label in cases:
        assert image.dtype == np.int16 and label.dtype == np.uint8
        assert image.shape == label.shape == SHAPE
        assert image.min() >= -1024 and image.max() > 300  # air and bone
        assert set(np.unique(label)) <= set(range(14))


def test_every_organ_is_present_and_inside_the_body(cases: list) -> None:
    for image, label in cases:
        counts = np.bincount(label.ravel(), minlength=14)
        assert (counts[1:] >= 5).all(), dict(zip(ORGANS, counts[1:], strict=True))
        body = np.stack([binary_fill_holes(plane > -400) for plane in np.moveaxis(image, 2, 0)], axis=2)
        assert body[label > 0].mean() > 0.998
        solid = (label > 0) & (label != ORGANS["stomach"]) & (label != ORGANS["esophagus"])
        assert np.mean(image[solid] < -300) < 0.01


def test_volumes_are_those_of_adults(cases: list) -> None:
    voxel_ml = np.prod(SPACING) / 1000
    mean = np.mean([np.bincount(label.ravel(), minlength=14) for _, label in cases], axis=0) * voxel_ml
    expected = {"liver": (1000, 2200), "spleen": (120, 380), "right kidney": (100, 230), "left kidney": (100, 230)}
    expected |= {"pancreas": (45, 120), "gallbladder": (15, 80), "aorta": (50, 150), "right adrenal gland": (1.5, 10)}
    for organ, (low, high) in expected.items():
        assert low < mean[ORGANS[organ]] < high, (organ, mean[ORGANS[organ]])


def test_axes_run_to_the_right_the_front_and_the_head(cases: list) -> None:
    for image, label in cases:
        assert centre(label, "liver")[0] > centre(label, "spleen")[0]
        assert centre(label, "right kidney")[0] > centre(label, "left kidney")[0]
        assert centre(label, "inferior vena cava")[0] > centre(label, "aorta")[0]
        assert centre(label, "stomach")[1] > centre(label, "left kidney")[1]
        assert centre(label, "esophagus")[2] > centre(label, "pancreas")[2]
        lung = (image < -600) & binary_dilation(image > 0, iterations=2)
        assert lung[..., -10:].sum() > lung[..., :10].sum()


def test_the_same_patient_is_sampled_by_every_grid() -> None:
    fine = generate_ct(5, 1, (80, 68, 50), (5.0, 5.0, 6.0))[1]
    coarse = generate_ct(5, 1, (40, 34, 25), (10.0, 10.0, 12.0))[1]
    for organ in ("liver", "spleen", "stomach", "right kidney", "left kidney"):
        shift = (centre(fine, organ) + 0.5) / 2 - (centre(coarse, organ) + 0.5)
        assert np.abs(shift).max() < 0.35, organ
        ratio = 8 * (coarse == ORGANS[organ]).sum() / (fine == ORGANS[organ]).sum()
        assert 0.8 < ratio < 1.25, organ


def test_look_alikes_fill_the_range_of_the_organs_without_a_label(cases: list) -> None:
    for image, label in cases:
        organ = image[np.isin(label, (ORGANS["spleen"], ORGANS["liver"], ORGANS["pancreas"]))]
        low, high = np.percentile(organ, (10, 90))
        alike = (image > low) & (image < high)
        assert (alike & (label == 0)).sum() > 0.8 * (alike & (label > 0)).sum()


def test_noise_has_unit_variance_and_is_correlated_in_the_plane() -> None:
    noise = ct.correlated_noise(np.random.default_rng(0), (40, 40, 40))
    in_plane = np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]
    through = np.corrcoef(noise[..., 1:].ravel(), noise[..., :-1].ravel())[0, 1]
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert 0.4 < in_plane < 0.8 and through < in_plane - 0.2


def test_every_patient_has_an_own_noise_level(cases: list) -> None:
    spreads = [image[label == ORGANS["liver"]].std() for image, label in cases]
    assert max(spreads) > 1.15 * min(spreads)


def test_contrast_moves_the_organs_together() -> None:
    subjects = [ct.Subject(0, index) for index in range(60)]
    phase = [subject.latents.phase for subject in subjects]
    assert np.corrcoef(phase, [subject.hu("aorta") for subject in subjects])[0, 1] < -0.6
    assert np.corrcoef(phase, [subject.hu("portal vein") for subject in subjects])[0, 1] > 0.4


def test_thirty_cases_carry_the_numbers_of_btcv() -> None:
    assert btcv_numbers(30) == [*range(1, 11), *range(21, 41)]
    assert btcv_numbers(32)[-2:] == [41, 42]


def test_cases_lie_in_the_layout_of_btcv(tmp_path: Path) -> None:
    write_btcv(tmp_path, 11, workers=1, **TINY)
    images = sorted(path.name for path in tmp_path.rglob("imagesTr/*"))
    labels = sorted(path.name for path in tmp_path.rglob("labelsTr/*"))
    numbers = [*range(1, 11), 21]
    assert images == [f"img{number:04d}.nii.gz" for number in numbers]
    assert labels == [f"label{number:04d}.nii.gz" for number in numbers]
    image = nib.load(tmp_path / "imagesTr" / "img0021.nii.gz")
    label = nib.load(tmp_path / "labelsTr" / "label0021.nii.gz")
    assert image.get_data_dtype() == np.int16 and label.get_data_dtype() == np.uint8
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_zooms() == TINY["spacing"]
    assert np.array_equal(image.affine, label.affine)
    assert np.array_equal(np.asarray(image.dataobj), generate_ct(0, 21, **TINY)[0])
    assert np.array_equal(np.asarray(label.dataobj), generate_ct(0, 21, **TINY)[1])


def test_a_case_is_kept_until_its_parameters_change(tmp_path: Path) -> None:
    image = tmp_path / "imagesTr" / "img0001.nii.gz"
    write_btcv(tmp_path, 1, workers=1, **TINY)
    first = image.stat().st_mtime_ns
    write_btcv(tmp_path, 2, workers=1, **TINY)
    assert image.stat().st_mtime_ns == first
    content = image.read_bytes()
    write_btcv(tmp_path, 1, seed=1, workers=1, **TINY)
    assert image.read_bytes() != content
    write_btcv(tmp_path, 1, seed=1, workers=1, shape=(16, 16, 16), spacing=TINY["spacing"])
    assert nib.load(image).shape == (16, 16, 16)


def test_a_truncated_case_is_written_again(tmp_path: Path) -> None:
    image = tmp_path / "imagesTr" / "img0001.nii.gz"
    write_btcv(tmp_path, 1, workers=1, **TINY)
    content = image.read_bytes()
    image.write_bytes(content[:40])
    write_btcv(tmp_path, 1, workers=1, **TINY)
    assert image.read_bytes() == content


def test_worker_processes_write_the_same_files(tmp_path: Path) -> None:
    write_btcv(tmp_path / "one", 3, workers=1, **TINY)
    write_btcv(tmp_path / "two", 3, workers=2, **TINY)
    for path in (tmp_path / "one").rglob("*.nii.gz"):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == twin.read_bytes()


@pytest.mark.parametrize(
    ("change", "word"),
    [({"cases": 0}, "cases"), ({"shape": (8, 28, 24)}, "shape"), ({"spacing": (1.0, 0.0, 1.0)}, "spacing")],
)
def test_a_request_that_cannot_be_met_is_one_sentence(tmp_path: Path, change: dict, word: str) -> None:
    with pytest.raises(InputError, match=word):
        write_btcv(tmp_path, **({"cases": 1, "workers": 1, **TINY} | change))


@pytest.mark.slow
def test_a_forest_without_context_fails() -> None:
    from scripts.phantom_gauges import LIMITS, forest_gauge

    phantoms = [generate_ct(7, index, SHAPE, SPACING) for index in range(14)]
    for kind, limit in LIMITS.items():
        dice = forest_gauge(phantoms[:10], phantoms[10:], kind)
        assert dice.shape == (13,)
        assert 0.05 < dice.mean() <= limit, kind
