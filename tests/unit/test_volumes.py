"""The volume cache: what an entry holds, when it is reused, and that nothing half-written is believed."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    CropForegroundd,
    Lambdad,
    Orientationd,
    RandFlipd,
    ScaleIntensityRanged,
    Transform,
)

from custom.data import VolumeCache, VolumeDataset, entries, volumes
from custom.errors import InputError
from custom.transforms import LoadVolumed

AFFINE = np.diag([-1.5, 1.5, 2.0, 1.0])
KEYS = ["image", "label"]


class Counted(Transform):
    """Counts how often it ran, in all instances together."""

    runs = 0

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        Counted.runs += 1
        return data


def preprocessing() -> list[Any]:
    return [
        LoadVolumed(KEYS, allow_missing_keys=True),
        Orientationd(KEYS, "RAS", allow_missing_keys=True),
        ScaleIntensityRanged("image", -175, 250, 0, 1, clip=True),
        CropForegroundd(KEYS, "image", allow_missing_keys=True),
        Counted(),
    ]


@pytest.fixture
def case(tmp_path: Path) -> dict[str, str]:
    rng = np.random.default_rng(0)
    image = np.full((12, 14, 16), -1000, dtype=np.int16)
    image[2:10, 3:12, 4:13] = rng.integers(-300, 300, (8, 9, 9))
    label = np.zeros(image.shape, dtype=np.uint8)
    label[4:6, 5:8, 6:9] = rng.integers(0, 14, (2, 3, 3))
    files = {"image": tmp_path / "img0005.nii.gz", "label": tmp_path / "label0005.nii.gz"}
    nibabel.save(nibabel.Nifti1Image(image, AFFINE), files["image"])
    nibabel.save(nibabel.Nifti1Image(label, AFFINE), files["label"])
    return {key: str(path) for key, path in files.items()}


@pytest.fixture
def cache(tmp_path: Path) -> VolumeCache:
    Counted.runs = 0
    return VolumeCache(tmp_path / "cache", preprocessing())


def entry_names(cache: VolumeCache) -> list[str]:
    return sorted(path.name for path in cache.cache_dir.iterdir())


def test_an_entry_holds_what_the_transforms_make(cache: VolumeCache, case: dict[str, str]) -> None:
    expected = Compose(preprocessing())(case)
    volume = cache.open(case)
    assert (volume.image.dtype, volume.label.dtype) == (np.float16, np.uint8)
    assert isinstance(volume.image, np.memmap) and isinstance(volume.label, np.memmap)
    assert np.abs(volume.image - expected["image"].numpy()).max() < 1e-3
    assert np.array_equal(volume.label, expected["label"].numpy())
    assert np.allclose(volume.affine, expected["image"].affine)
    assert np.allclose(volume.meta["original_affine"], AFFINE)
    assert volume.meta["spatial_shape"] == [12, 14, 16]


def test_a_cropped_view_is_stored_without_the_volume_around_it(cache: VolumeCache, case: dict[str, str]) -> None:
    volume = cache.open(case)
    assert volume.image.shape[1:] < (12, 14, 16)
    assert (cache.directory(case) / "image.npy").stat().st_size < volume.image.nbytes + 200


def test_coordinates_are_the_voxels_they_are_named_for(cache: VolumeCache, case: dict[str, str]) -> None:
    volume = cache.open(case)
    foreground, labelled = volume.image[0] > 0, volume.label[0] > 0
    masks = {"foreground": foreground, "positive": labelled, "negative": foreground & ~labelled}
    for name, mask in masks.items():
        assert {tuple(row) for row in getattr(volume, name).tolist()} == {
            tuple(row) for row in np.argwhere(mask).tolist()
        }


def test_many_coordinates_are_thinned_evenly() -> None:
    coordinates = entries.sample_coordinates(np.ones((60, 60, 60), dtype=bool))
    assert coordinates.shape == (entries.MAX_COORDINATES, 3)
    assert len(np.unique(coordinates, axis=0)) == entries.MAX_COORDINATES
    assert np.allclose(coordinates.mean(axis=0), 29.5, atol=0.5)


def test_an_unlabelled_case_has_no_positive_voxel(cache: VolumeCache, case: dict[str, str]) -> None:
    volume = cache.open({"image": case["image"]})
    assert volume.label is None and len(volume.positive) == 0
    assert np.array_equal(volume.negative, volume.foreground)


def test_preprocessing_runs_once(cache: VolumeCache, case: dict[str, str], tmp_path: Path) -> None:
    cache.open(case)
    cache.open(case)
    VolumeCache(tmp_path / "cache", Compose(preprocessing())).prepare([case])
    assert Counted.runs == 1


@pytest.mark.parametrize("name", ["image.npy", "centres.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_entry_is_built_again(cache: VolumeCache, case: dict[str, str], name: str, damage: str) -> None:
    intact = np.array(cache.open(case).image)
    file = cache.directory(case) / name
    content = file.read_bytes()
    file.unlink()
    if damage == "truncated":
        file.write_bytes(content[:-10])
    assert np.array_equal(cache.open(case).image, intact)
    assert Counted.runs == 2
    assert entry_names(cache) == [cache.directory(case).name]


def test_a_killed_build_leaves_nothing_that_is_later_believed(
    cache: VolumeCache, case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    directory = cache.directory(case)
    with monkeypatch.context() as killed:
        killed.setattr(entries.json, "dumps", die)
        killed.setattr(volumes.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(KeyboardInterrupt):
            cache.open(case)
    (left,) = cache.cache_dir.iterdir()
    assert (left / "image.npy").exists()
    assert left != directory
    assert np.any(cache.open(case).label)
    assert Counted.runs == 2


def test_an_interrupted_build_removes_its_own_files(
    cache: VolumeCache, case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(volumes, "publish_entry", die)
    with pytest.raises(KeyboardInterrupt):
        cache.open(case)
    assert entry_names(cache) == []


def test_of_two_builders_at_once_the_second_takes_the_firsts_entry(
    cache: VolumeCache, case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = VolumeCache(tmp_path / "cache", preprocessing())
    publish = entries.publish_entry
    both_built = threading.Barrier(2, timeout=30)

    def publish_together(temporary: Path, directory: Path) -> None:
        both_built.wait()
        publish(temporary, directory)

    monkeypatch.setattr(volumes, "publish_entry", publish_together)
    thread = threading.Thread(target=other.open, args=(case,))
    thread.start()
    image = cache.open(case).image
    thread.join()
    assert Counted.runs == 2
    assert np.array_equal(image, other.open(case).image)
    assert entry_names(cache) == [cache.directory(case).name]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    cache: VolumeCache, case: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entries.np, "save", full)
    with pytest.raises(InputError, match=r"cache cannot be written \(No space left on device\); free space"):
        cache.open(case)
    assert entry_names(cache) == []


def test_an_error_that_is_not_the_users_stays_what_it_is(tmp_path: Path, case: dict[str, str]) -> None:
    broken = [LoadVolumed("image"), Lambdad("image", lambda image: image.no_such_attribute)]
    with pytest.raises(RuntimeError, match="applying transform"):
        VolumeCache(tmp_path, broken).open(case)


def test_prepare_builds_all_in_threads_and_shows_a_bar_only_then(
    cache: VolumeCache, case: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case, {"image": case["image"]}]
    cache.prepare(cases, num_workers=2)
    assert "Preprocessing volumes" in capsys.readouterr().err
    assert Counted.runs == 2 and len(entry_names(cache)) == 2
    cache.prepare(cases)
    assert capsys.readouterr().err == ""


def test_a_random_transform_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="RandFlipd"):
        VolumeCache(tmp_path, [LoadVolumed("image"), RandFlipd("image", 0.5)])


def test_int16_keeps_hounsfield_units_and_refuses_scaled_images(tmp_path: Path, case: dict[str, str]) -> None:
    raw = VolumeCache(tmp_path / "raw", [LoadVolumed("image")], "int16").open(case).image
    assert np.array_equal(raw[0], nibabel.load(case["image"]).get_fdata())
    with pytest.raises(InputError, match=r"img0005\.nii\.gz spans only 1 after preprocessing"):
        VolumeCache(tmp_path / "scaled", preprocessing(), "int16").open(case)


def test_values_beyond_float16_are_refused(tmp_path: Path, case: dict[str, str]) -> None:
    large = [LoadVolumed("image"), ScaleIntensityRanged("image", 0, 1, 0, 1000)]
    with pytest.raises(InputError, match=r"img0005\.nii\.gz has values from .* beyond float16"):
        VolumeCache(tmp_path / "cache", large).open(case)


def test_whole_volumes_come_with_their_geometry(tmp_path: Path, case: dict[str, str]) -> None:
    dataset = VolumeDataset([case], tmp_path / "cache", preprocessing())
    expected = Compose(preprocessing())(case)
    item = dataset[0]
    assert len(dataset) == 1 and dataset.data == [case]
    assert isinstance(item["image"], MetaTensor) and item["image"].dtype == torch.float32
    assert torch.allclose(item["image"].as_tensor(), expected["image"].as_tensor(), atol=1e-3)
    assert torch.equal(item["label"].as_tensor(), expected["label"].as_tensor())
    assert torch.allclose(item["image"].affine, expected["image"].affine)
    assert item["image"].meta["filename_or_obj"] == case["image"]
