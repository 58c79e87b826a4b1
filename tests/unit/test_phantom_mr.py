"""The brain MR phantoms: anatomy, contrasts, tumour, and how hard they are for a model without context."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes, center_of_mass

from custom.data.phantoms.mr import CONTRASTS, generate_mr
from custom.data.phantoms.mr_anatomy import Brain
from custom.data.phantoms.mr_head import Head
from custom.data.phantoms.mr_oedema import LATTICE_MM, spread
from custom.data.phantoms.mr_scanner import TISSUES, Scanner
from custom.data.phantoms.mr_tumour import Tumour, TumourPlan

SHAPE, SPACING = (54, 64, 54), (3.0, 3.0, 3.0)
TINY = {"shape": (20, 24, 20), "spacing": (8.0, 8.0, 8.0)}
FLAIR, T1W, T1GD, T2W = range(4)
EDEMA, CORE, ENHANCING = 1, 2, 3
Cases = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def cases() -> Cases:
    return [generate_mr(5, index, SHAPE, SPACING) for index in range(6)]


@pytest.fixture(scope="module")
def heads() -> list[Head]:
    return [Head(0, index) for index in range(60)]


def median(image: np.ndarray, where: np.ndarray, channel: int) -> float:
    return float(np.median(image[where, channel]))


def test_a_case_depends_on_seed_and_index_alone() -> None:
    first = generate_mr(1, 3, **TINY)
    generate_mr(1, 4, **TINY)
    again = generate_mr(1, 3, **TINY)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[1], generate_mr(2, 3, **TINY)[1])
    assert not np.array_equal(first[1], generate_mr(1, 4, **TINY)[1])


def test_dtypes_and_shapes_are_those_of_a_scan(cases: Cases) -> None:
    for image, label in cases:
        assert image.dtype == np.int16 and label.dtype == np.uint8
        assert image.shape == (*SHAPE, len(CONTRASTS)) and label.shape == SHAPE
        assert set(np.unique(label)) <= {0, 1, 2, 3}
        assert image.max() < 20_000


def test_the_skull_is_stripped_from_all_contrasts_alike(cases: Cases) -> None:
    for image, label in cases:
        brain = image[..., 0] > 0
        assert all(np.array_equal(image[..., channel] > 0, brain) for channel in range(4))
        assert image.min() == 0
        assert brain[label > 0].all()
        faces = [brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., 0], brain[..., -1]]
        assert sum(face.sum() for face in faces) <= 0.002 * brain.sum()  # the field of view holds the brain


def test_volumes_are_those_of_adults_with_a_glioma(cases: Cases) -> None:
    voxel_ml = np.prod(SPACING) / 1000
    brains = [(image[..., 0] > 0).sum() * voxel_ml for image, _ in cases]
    assert 1200 < np.mean(brains) < 1800 and min(brains) > 1000 and max(brains) < 2100
    tumours = [np.bincount(label.ravel(), minlength=4)[1:] * voxel_ml for _, label in cases]
    assert all(10 < tumour.sum() < 320 for tumour in tumours)
    assert max(tumour[1:].sum() for tumour in tumours) > 4 * min(tumour[1:].sum() for tumour in tumours)


def test_core_and_rim_lie_inside_the_whole_tumour(cases: Cases) -> None:
    for image, label in cases:
        core = label >= CORE
        shell = binary_dilation(core) & ~core & (image[..., 0] > 0)
        assert np.mean(label[shell] == EDEMA) > 0.5
        inner = (label == CORE) & binary_erosion(binary_fill_holes(core))
        if (label == ENHANCING).sum() > 50 and inner.sum() > 50:
            middle = np.array(center_of_mass(core))
            inside, outside = (np.argwhere(label == part) - middle for part in (CORE, ENHANCING))
            assert np.linalg.norm(outside, axis=1).mean() > np.linalg.norm(inside, axis=1).mean()


def test_the_rim_is_bright_after_contrast_agent_only(cases: Cases) -> None:
    before, after = [], []
    for image, label in cases:
        rim, rest = label == ENHANCING, (image[..., 0] > 0) & (label == 0)
        if rim.sum() >= 30:
            before.append(median(image, rim, T1W) / median(image, rest, T1W))
            after.append(median(image, rim, T1GD) / median(image, rest, T1GD))
    assert len(before) >= len(cases) / 2
    assert np.mean(before) < 1.05 and np.mean(after) > 1.2
    assert np.min(np.divide(after, before)) > 1.05


def test_oedema_is_bright_on_flair_and_t2_and_dark_on_t1(cases: Cases) -> None:
    ratios = []
    for image, label in cases:
        oedema = label == EDEMA
        rest = binary_erosion((image[..., 0] > 0) & (label == 0), iterations=6)  # little cortex
        ratios.append([median(image, oedema, channel) / median(image, rest, channel) for channel in range(4)])
    mean = np.mean(ratios, axis=0)
    assert mean[FLAIR] > 1.15 and mean[T2W] > 1.15 and mean[T1W] < 1


def test_axes_run_to_the_right_the_front_and_the_head(cases: Cases) -> None:
    for image, _ in cases:
        brain = image[..., 0] > 0
        widths, lengths, heights = (np.ptp(np.flatnonzero(brain.any(axis))) for axis in ((1, 2), (0, 2), (0, 1)))
        assert lengths > widths and lengths > heights
        middle = np.array(center_of_mass(brain))
        low = np.argwhere(brain[..., : int(middle[2]) - 15])[:, 1]  # cerebellum and brain stem
        assert low.mean() < middle[1]
        front, back = (brain[:, int(middle[1]) + step].sum() for step in (18, -18))
        assert front < back


def test_tumours_occur_on_both_sides(heads: list[Head]) -> None:
    sides = [Tumour(head).centre[0] > 0 for head in heads[:20]]
    assert 4 < sum(sides) < 16


def test_the_same_patient_is_sampled_by_every_grid() -> None:
    image, fine = generate_mr(5, 1, (54, 64, 54), (3.0, 3.0, 3.0))
    smaller, coarse = generate_mr(5, 1, (27, 32, 27), (6.0, 6.0, 6.0))
    brain, small_brain = image[..., 0] > 0, smaller[..., 0] > 0
    for first, second in ((brain, small_brain), (fine > 0, coarse > 0), (fine >= CORE, coarse >= CORE)):
        shift = (np.array(center_of_mass(first)) + 0.5) / 2 - (np.array(center_of_mass(second)) + 0.5)
        assert np.abs(shift).max() < 0.35
        assert 0.8 < 8 * second.sum() / first.sum() < 1.25
    pooled = image[..., FLAIR].reshape(27, 2, 32, 2, 27, 2).mean((1, 3, 5))
    both = binary_erosion(small_brain) & (pooled > 0)
    assert np.corrcoef(pooled[both], smaller[both, FLAIR])[0, 1] > 0.6


def test_some_tumours_do_not_enhance() -> None:
    plans = [TumourPlan.draw(np.random.default_rng(index)) for index in range(400)]
    assert 0.04 < np.mean([not plan.enhances for plan in plans]) < 0.17
    assert max(plan.radius for plan in plans) > 3 * min(plan.radius for plan in plans)


def test_look_alikes_carry_no_label(cases: Cases) -> None:
    for channel, part, share in ((FLAIR, EDEMA, 0.2), (T1GD, ENHANCING, 0.2)):
        ratios = []
        for image, label in cases:
            if (label == part).sum() < 30:
                continue
            alike = image[..., channel] > np.percentile(image[label == part, channel], 25)
            ratios.append((alike & (label == 0)).sum() / (label == part).sum())
        assert np.median(ratios) > share, CONTRASTS[channel]


def test_signals_follow_the_physics_of_each_sequence(heads: list[Head]) -> None:
    signals = [{tissue: Scanner(head).signals(tissue) for tissue in TISSUES} for head in heads]
    mean = {tissue: np.mean([row[tissue] for row in signals], axis=0) for tissue in TISSUES}
    assert mean["csf"][FLAIR] < 0.3 * mean["white"][FLAIR]  # nulled
    assert mean["csf"][T2W] > 2 * mean["white"][T2W]
    assert mean["white"][T1W] > mean["grey"][T1W] > mean["csf"][T1W]
    assert mean["grey"][T2W] > mean["white"][T2W]
    assert mean["enhancing"][T1GD] > 1.4 * mean["enhancing"][T1W]
    assert np.allclose(mean["white"][T1W], mean["white"][T1GD])


def test_oedema_spreads_along_white_matter() -> None:
    speed = np.full((21, 21, 21), 0.2)
    speed[:, 8:13, 8:13] = 1.0
    sources = np.zeros(speed.shape, bool)
    sources[10, 10, 10] = True
    time = spread(speed, sources, 1e3)
    assert time[10, 10, 10] == 0
    assert time[16, 10, 10] == pytest.approx(6 * LATTICE_MM)
    assert time[10, 16, 10] > 2.5 * time[16, 10, 10]
    assert spread(speed, sources, 5.0).max() == 5.0


def test_age_widens_the_ventricles(heads: list[Head]) -> None:
    points = np.random.default_rng(0).uniform((-30, -50, -10), (30, 40, 30), (4000, 3)).T
    volumes = [np.mean(Brain(head, points, 1.0).ventricle < 0) for head in heads[:20]]
    assert np.corrcoef([head.latents.age for head in heads[:20]], volumes)[0, 1] > 0.5


@pytest.mark.slow
def test_a_forest_without_context_fails() -> None:
    from scripts.phantom_forests import forest_gauge
    from scripts.phantom_populations import MR

    phantoms = MR.cases(7, 14)
    for kind, limit in MR.limits.items():
        dice = forest_gauge(phantoms[:10], phantoms[10:], kind, MR)
        assert dice.shape == (3,)
        assert dice.mean() <= limit, kind
