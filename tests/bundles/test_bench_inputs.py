"""What the benchmark compares with: MONAI's parts alone must do the same work."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import run

from scripts.bench import radiographs, runtimes, start


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


def test_both_loaders_of_chest_x_rays_give_every_image_in_both_epochs(nih: Path) -> None:
    files = [str(path) for path in sorted((nih / "images").iterdir())[:5]]
    for side in (radiographs.ours, radiographs.baseline):
        assert all(rate > 0 for rate in side(files, 0).values())


def test_all_ways_take_turns_and_the_warm_up_does_not_count() -> None:
    called: list[str] = []
    rounds = runtimes.take_rounds({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, 2)
    assert called == ["a", "b"] * 3
    assert [set(one) for one in rounds] == [{"a", "b"}] * 2
