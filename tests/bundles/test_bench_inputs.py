"""What the benchmark compares with: MONAI's parts alone must do the same work."""

from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import run
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Compose, LoadImage, LoadImaged, Orientation, Spacing
from scipy.ndimage import maximum_filter, minimum_filter
from torch import nn

from scripts.bench import native, radiographs, runtimes, sample, segment, start
from scripts.bench.configs import bundle_config
from scripts.tiny import IMAGES, TINY


@pytest.fixture
def ct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A coarse CT, and random weights of the baseline's network."""
    monkeypatch.setattr(start, "SHAPE", (44, 40, 38))
    monkeypatch.setattr(start, "SPACING", (9.0, 8.5, 8.0))
    return start.case(tmp_path)


def test_the_configuration_in_the_zoos_style_segments_a_ct_on_its_own_grid(ct: tuple[str, str], tmp_path: Path) -> None:
    image, weights = ct
    one_window = {"preprocessing#transforms#3#pixdim": [8.0, 8.0, 8.0], "output_dir": str(tmp_path / "out")}
    run(config_file=str(start.ZOO), dataset_dir=image, checkpoint=weights, **one_window)
    (output,) = (tmp_path / "out").rglob("*.nii.gz")
    assert nib.load(output).shape[:3] == nib.load(image).shape
    assert np.allclose(nib.load(output).affine, nib.load(image).affine)


@pytest.mark.slow
def test_the_first_window_ends_the_process_before_anything_is_written(ct: tuple[str, str], tmp_path: Path) -> None:
    image, weights = ct
    found = start.seconds_to_first_window(start.ZOO, "@network", tmp_path, dataset_dir=image, checkpoint=weights)
    assert found["s"] > 0
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


@pytest.mark.slow
def test_a_run_that_never_reaches_its_network_is_no_measurement(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="never reached its network"):
        start.seconds_to_first_window(start.ZOO, "@network", tmp_path, dataset_dir=str(tmp_path / "missing.nii.gz"))


def test_the_loaders_of_chest_x_rays_give_every_image_in_both_epochs(nih: Path) -> None:
    files = [str(path) for path in sorted((nih / "images").iterdir())[:5]]
    for side in (radiographs.ours, radiographs.baseline, partial(radiographs.baseline, persistent=True)):
        assert all(rate > 0 for rate in side(files, 0).values())


def test_the_persistent_baseline_decodes_no_image_twice(nih: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(path) for path in sorted((nih / "images").iterdir())[:5]]
    loaded: list[str] = []
    load = LoadImaged.__call__
    monkeypatch.setattr(LoadImaged, "__call__", lambda self, data: loaded.append(data["image"]) or load(self, data))
    radiographs.baseline(files, 0, persistent=True)
    assert sorted(loaded) == files
    radiographs.baseline(files, 0)
    assert sorted(loaded[5:]) == sorted(files * 2)


def test_the_segmentation_in_the_zoos_style_is_that_of_its_parts(btcv: Path, tmp_path: Path) -> None:
    options, ct = TINY["unetr_btcv"], btcv / IMAGES["btcv"]
    parser = bundle_config("unetr_btcv", "inference", **options)
    network = strong(parser.get_parsed_content("network_def"))
    torch.save({"model": network.state_dict()}, tmp_path / "model.pt")
    files = [str(file) for file in segment.zoo_files(tmp_path, options)]
    run(config_file=files, dataset_dir=str(ct), checkpoint=str(tmp_path / "model.pt"), output_dir=str(tmp_path))
    found, image = nib.load(tmp_path / f"{ct.name.removesuffix('.nii.gz')}_seg.nii.gz"), nib.load(ct)
    assert found.shape == image.shape and np.allclose(found.affine, image.affine)
    assert found.get_data_dtype() == np.uint8
    expected = direct(network, ct, parser.get_parsed_content("intensity_range"))
    assert len(np.unique(expected)) > 3
    assert (np.asarray(found.dataobj) == expected).mean() > 0.999


def strong(network: nn.Module) -> nn.Module:
    """The network with weights that make it tell classes apart; seeded."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


@torch.no_grad()
def direct(network: nn.Module, ct: Path, window: tuple[float, float]) -> np.ndarray:
    """Labels (H, W, D): windows of 32 over voxels of 8 mm, scores back by MONAI's inverse, one transform at a time."""
    image = LoadImage(ensure_channel_first=True)(ct)
    chain = Compose([Orientation("RAS"), Spacing([8.0, 8.0, 8.0], mode="bilinear")])
    moved = chain(image)
    grey = ((moved - window[0]) / (window[1] - window[0])).clamp(0, 1).as_tensor()
    scores = SlidingWindowInferer([32] * 3, 1, 0.5)(grey[None], network)[0].softmax(dim=0)
    back = chain.inverse(MetaTensor(scores, meta=moved.meta, applied_operations=moved.applied_operations))
    return back.argmax(dim=0).numpy()


def test_our_segmentation_is_timed_with_the_options_given(
    btcv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(segment, "run_command", lambda command: commands.append(command) or {})
    segment.ours(btcv / IMAGES["btcv"], tmp_path, tmp_path / "model.pt", {"overlap": 0.25})
    assert commands[0][-2:] == ["--overlap", "0.25"]


def test_fewer_windows_are_counted(btcv: Path, tmp_path: Path) -> None:
    own = TINY["unetr_btcv"] | {"dataset_dir": str(btcv / IMAGES["btcv"])}
    counts = [
        segment.count_windows(bundle_config("unetr_btcv", "inference", **own, overlap=overlap))
        for overlap in (0.25, 0.75)
    ]
    assert 1 < counts[0] < counts[1]


@pytest.mark.slow
def test_labels_in_native_space_agree_whichever_way_they_are_made() -> None:
    """Scores before and after softmax are interpolated alike but for borders, which are most of a thin organ."""
    shape = (256, 256, 64)
    one, other = (np.asarray(way(shape)())[0] for way in (native.our_way, native.their_way))
    assert one.shape == other.shape == shape
    borders = maximum_filter(one, 5) != minimum_filter(one, 5)
    assert np.array_equal(one[~borders], other[~borders])
    organs = {label: count for label, count in enumerate(np.bincount(one.ravel())) if label}
    assert len(organs) == native.CLASSES - 1
    for label, count in organs.items():
        dice = 2 * ((one == label) & (other == label)).sum() / (count + (other == label).sum())
        assert dice > (0.99 if count > 10_000 else 0.97)


@pytest.mark.parametrize("labels", [None, False, True], ids=["ours", "images", "labels"])
def test_crops_of_every_side_have_the_size_asked_for(
    labels: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SHAPE": (64, 64, 32), "SPACING": (6.0, 6.0, 9.0), "CASES": 0}.items():
        monkeypatch.setattr(sample, name, value)
    cases = sample.write_cases(tmp_path)
    dataset = sample.our_dataset(cases, str(tmp_path)) if labels is None else sample.their_dataset(cases, labels=labels)
    crops = dataset[0]
    assert [tuple(crop["image"].shape) for crop in crops] == [(1, *sample.ROI)] * 4
    assert all(("label" in crop) == bool(labels) for crop in crops)
    assert all(0 <= crop["image"].min() < crop["image"].max() <= 1 for crop in crops)


@pytest.mark.slow
def test_all_ways_to_run_a_network_give_its_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "has_bfloat16", lambda device: True)
    monkeypatch.setattr(runtimes, "milliseconds", lambda way: way())
    with torch.inference_mode():
        found = {name: way().float() for name, way in runtimes.ways_to_run("unetr_btcv", str(tmp_path)).items()}
    exact = found.pop(runtimes.SINGLE)
    differences = {name: ((scores - exact).abs().max() / exact.abs().max()).item() for name, scores in found.items()}
    assert differences[runtimes.ONNX] < 1e-3 < differences[runtimes.BFLOAT16] < 0.05
