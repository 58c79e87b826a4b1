"""Scores mean what their names say, and the report of an evaluation holds every case once."""

from __future__ import annotations

import csv
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.metrics import compute_dice, compute_hausdorff_distance
from scipy.ndimage import gaussian_filter

from custom.errors import InputError
from custom.files import case_name
from custom.metrics import SegmentationReport
from custom.scores import BRATS_DICE, BRATS_HD95, bootstrap_interval, dice_per_class, hd95_per_class

ORGANS = ["spleen", "liver", "aorta"]
SPACING = (0.8, 1.5, 3.0)


def blobs(seed: int, shape: tuple[int, ...] = (24, 26, 22)) -> torch.Tensor:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((4, *shape)), (0, 3, 3, 3))
    return torch.from_numpy(noise.argmax(axis=0).astype(np.uint8))


def cube(start: tuple[int, int, int], label: int = 1, size: int = 8) -> torch.Tensor:
    volume = torch.zeros(24, 24, 24, dtype=torch.uint8)
    volume[tuple(slice(first, first + size) for first in start)] = label
    return volume


def test_the_bootstrap_interval_has_the_width_of_the_normal_theory_and_ignores_nan() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    mean, low, high = bootstrap_interval(np.append(values, np.nan))
    half = 1.96 * values.std() / 20
    assert mean == pytest.approx(values.mean())
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.1)
    assert bootstrap_interval(values) == (mean, low, high)


def test_one_case_has_a_mean_but_no_interval_and_no_case_has_neither() -> None:
    mean, low, high = bootstrap_interval([np.nan, 0.4])
    assert mean == 0.4 and np.isnan(low) and np.isnan(high)
    assert np.isnan(bootstrap_interval([np.nan])).all()


def test_scores_on_crops_equal_the_scores_on_whole_volumes() -> None:
    pred, label = blobs(0), blobs(1)
    one_hot = [torch.stack([volume == index for index in (1, 2, 3)])[None] for volume in (pred, label)]
    distance = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=SPACING)
    np.testing.assert_allclose(dice_per_class(pred, label, 4), compute_dice(*one_hot)[0], rtol=1e-6)
    np.testing.assert_allclose(hd95_per_class(pred[None], label[None], 4, SPACING), distance[0], rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_hd95_of_a_shifted_cube_is_the_shift_in_mm_or_in_voxels(axis) -> None:
    start = [5, 5, 5]
    label = cube(tuple(start))
    start[axis] += 4
    pred = cube(tuple(start))
    assert hd95_per_class(pred, label, 2, SPACING)[0] == pytest.approx(4 * SPACING[axis])
    assert hd95_per_class(pred, label, 2)[0] == pytest.approx(4)


def test_an_absent_organ_has_no_score_and_a_missed_one_has_dice_zero_without_distance() -> None:
    pred, label = cube((2, 2, 2), label=1), cube((2, 2, 2), label=2)
    assert np.isnan(dice_per_class(pred, label, 4)[[0, 2]]).all() and dice_per_class(pred, label, 4)[1] == 0
    assert np.isnan(hd95_per_class(pred, label, 4)).all()


def test_different_grids_are_refused() -> None:
    with pytest.raises(InputError, match="different grids"):
        dice_per_class(torch.zeros(3, 3, 3), torch.zeros(3, 3, 4), 2)


@pytest.mark.parametrize("path", ["/a/img0001.nii.gz", "img0001.nii", "/b.c/img0001"])
def test_a_case_is_called_like_its_file(path) -> None:
    assert case_name(path) == "img0001"


def item(path: str, pred: torch.Tensor, label: torch.Tensor) -> dict[str, torch.Tensor]:
    affine = torch.diag(torch.tensor((*SPACING, 1.0), dtype=torch.float64))
    native = MetaTensor(label[None], affine=affine)
    image = MetaTensor(torch.zeros(1, 1, 1, 1), meta={"filename_or_obj": path})
    return {"image": image, "pred": pred[None], "label": label[None], "native_pred": pred[None], "native_label": native}


def evaluate(items: list[dict[str, torch.Tensor]], report: SegmentationReport) -> dict[str, float]:
    """Run an engine as MONAI's evaluator leaves its state: loaded keys in the batch, new ones in the output."""

    def step(engine: Engine, batch: list) -> list:
        engine.state.batch = [{"native_label": entry["native_label"]} for entry in batch]
        return [{key: value for key, value in entry.items() if key != "native_label"} for entry in batch]

    engine = Engine(step)
    report.attach(engine)
    return engine.run([[entry] for entry in items]).metrics


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def three_cases() -> list[dict[str, torch.Tensor]]:
    missed = blobs(5)
    missed[missed == 3] = 0
    absent = blobs(6)
    absent[absent == 1] = 0
    pairs = [(blobs(0), blobs(1)), (missed, blobs(4)), (blobs(7), absent)]
    return [item(f"/data/case{index}.nii.gz", *pair) for index, pair in enumerate(pairs)]


def test_the_summary_is_the_mean_over_cases_of_the_mean_over_organs(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO, logger="custom.metrics")
    metrics = evaluate(three_cases(), SegmentationReport(tmp_path / "out", ORGANS, published_classes=(0, 1)))
    dice = np.array([dice_per_class(case["pred"], case["label"], 4) for case in three_cases()])
    hd95 = np.array([hd95_per_class(case["pred"], case["label"], 4, SPACING) for case in three_cases()])
    table = {(row["metric"], row["organ"]): row for row in rows(tmp_path / "out" / "summary.csv")}
    mean = table["dice_native", "mean of 3"]
    assert float(mean["mean"]) == pytest.approx(np.nanmean(np.nanmean(dice, axis=1)), rel=1e-5)
    assert metrics["dice_native_mean"] == pytest.approx(float(mean["mean"]), rel=1e-5)
    assert metrics["hd95_mm_native_mean"] == pytest.approx(np.nanmean(np.nanmean(hd95, axis=1)))
    published = float(table["dice_resampled", "mean of 2 (published set)"]["mean"])
    assert published == pytest.approx(np.nanmean(np.nanmean(dice[:, :2], axis=1)), rel=1e-5)
    assert metrics["dice_resampled_mean_published"] == pytest.approx(published, rel=1e-5)
    assert float(mean["ci_low"]) < float(mean["mean"]) < float(mean["ci_high"])
    assert "dice_native" in caplog.text and "3 cases" in caplog.text


def test_missed_organs_are_counted_and_absent_ones_are_not(tmp_path) -> None:
    evaluate(three_cases(), SegmentationReport(tmp_path, ORGANS))
    table = {(row["metric"], row["organ"]): row for row in rows(tmp_path / "summary.csv")}
    assert (table["hd95_mm_native", "aorta"]["cases"], table["hd95_mm_native", "aorta"]["undefined"]) == ("2", "1")
    assert (table["dice_native", "aorta"]["cases"], table["dice_native", "aorta"]["undefined"]) == ("3", "0")
    assert (table["hd95_mm_native", "spleen"]["cases"], table["hd95_mm_native", "spleen"]["undefined"]) == ("2", "0")
    case = {(row["case"], row["organ"]): row for row in rows(tmp_path / "per_case.csv")}
    assert len(case) == 9
    assert case["case1", "aorta"]["dice_native"] == "0" and case["case1", "aorta"]["hd95_mm_native"] == ""
    assert case["case2", "spleen"]["dice_native"] == ""
    assert float(case["case0", "liver"]["hd95_mm_native"]) > float(case["case0", "liver"]["hd95_voxel_resampled"])


def test_a_case_seen_twice_counts_once_but_equal_names_in_two_folders_are_two_cases(tmp_path) -> None:
    first, second, _ = three_cases()
    other = item("/other/case0.nii.gz", blobs(8), blobs(9))
    evaluate([first, second, first, other], SegmentationReport(tmp_path, ORGANS))
    names = {row["case"] for row in rows(tmp_path / "per_case.csv")}
    assert names == {"case0 (1 of 2)", "case0 (2 of 2)", "case1"}


def test_a_second_run_reports_its_own_cases_only(tmp_path) -> None:
    report = SegmentationReport(tmp_path, ORGANS)
    evaluate(three_cases(), report)
    evaluate(three_cases()[:1], report)
    assert {row["case"] for row in rows(tmp_path / "per_case.csv")} == {"case0"}


def test_figures_that_are_switched_off_are_left_out(tmp_path) -> None:
    metrics = evaluate(three_cases(), SegmentationReport(tmp_path, ORGANS, native_pred_key=None))
    assert {row["metric"] for row in rows(tmp_path / "summary.csv")} == {"dice_resampled", "hd95_voxel_resampled"}
    assert "dice_native_mean" not in metrics


def test_a_missing_key_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="'segmentation'"):
        evaluate(three_cases(), SegmentationReport(tmp_path, ORGANS, pred_key="segmentation"))


def evaluate_on_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    cases = three_cases()
    # a sampler that pads gives the first case to both ranks
    metrics = evaluate([cases[0], cases[1 + rank]], SegmentationReport(f"{folder}/rank{rank}", ORGANS))
    (Path(folder) / f"mean{rank}").write_text(str(metrics["dice_native_mean"]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_write_one_report_of_all_cases(tmp_path) -> None:
    mp.spawn(evaluate_on_rank, args=(str(tmp_path),), nprocs=2)
    expected = evaluate(three_cases(), SegmentationReport(tmp_path / "single", ORGANS))["dice_native_mean"]
    for rank in range(2):
        assert float((tmp_path / f"mean{rank}").read_text()) == pytest.approx(expected)
    assert rows(tmp_path / "rank0" / "per_case.csv") == rows(tmp_path / "single" / "per_case.csv")
    assert not (tmp_path / "rank1").exists()


def test_overlapping_regions_are_scored_channel_by_channel() -> None:
    pred, label = torch.zeros(2, 2, 4, 4, 4, dtype=torch.uint8)
    label[:, :2] = 1  # both regions cover the same voxels
    pred[0, :2], pred[1, :1] = 1, 1
    assert dice_per_class(pred, label, 3).tolist() == pytest.approx([1.0, 2 / 3])
    assert hd95_per_class(pred, label, 3, (2.0, 1.0, 1.0)).tolist() == pytest.approx([0.0, 2.0])


def test_empty_regions_score_as_brats_does() -> None:
    some, none = torch.ones(1, 4, 4, 4, dtype=torch.uint8), torch.zeros(1, 4, 4, 4, dtype=torch.uint8)
    pairs = {"agree": (none, none), "false alarm": (some, none), "missed": (none, some)}
    dice = {name: dice_per_class(*pair, 2, BRATS_DICE)[0] for name, pair in pairs.items()}
    hd95 = {name: hd95_per_class(*pair, 2, empty=BRATS_HD95)[0] for name, pair in pairs.items()}
    assert dice == {"agree": 1.0, "false alarm": 0.0, "missed": 0.0}
    assert hd95 == {"agree": 0.0, "false alarm": 373.13, "missed": 373.13}


def test_the_report_scores_empty_regions_natively_and_leaves_them_out_as_published(tmp_path: Path) -> None:
    none, some = torch.zeros(4, 4, 4, dtype=torch.uint8), torch.ones(4, 4, 4, dtype=torch.uint8)
    report = SegmentationReport(tmp_path, ["tumour"], empty_is_scored=True)
    evaluate([item("a.nii", none, none), item("b.nii", some, none)], report)
    table = {row["case"]: row for row in rows(tmp_path / "per_case.csv")}
    assert [float(table[name]["dice_native"]) for name in "ab"] == [1, 0]
    assert [float(table[name]["hd95_mm_native"]) for name in "ab"] == [0, 373.13]
    assert [table[name]["dice_resampled"] for name in "ab"] == ["", ""]
