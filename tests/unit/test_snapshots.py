"""The picture that a run leaves shows the last thing its network saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from custom import snapshots
from custom.findings import MeanAUC
from custom.networks import MAE, MaskedPretraining


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """What each drawing function was called with last."""
    calls: dict[str, tuple[Any, ...]] = {}
    for name in ("draw_overlay", "draw_reconstruction", "draw_masked_image", "draw_roc"):
        monkeypatch.setattr(snapshots, name, lambda *given, name=name, **more: calls.update({name: (*given, more)}))
    return calls


def finish(snapshot: snapshots.Snapshot, output: Any, batch: Any = None, network: Any = None) -> None:
    """One epoch of one iteration that gives `output`, under the snapshot."""
    engine = Engine(lambda _, __: output)
    engine.network = network
    snapshot.attach(engine)
    engine.run([batch])


@pytest.mark.parametrize("axes", [2, 3])
def test_of_a_reconstruction_the_visible_patches_are_the_image(axes: int, drawn: dict, tmp_path: Path) -> None:
    decoder = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
    network = MaskedPretraining(MAE(1, [16] * axes, 8, 24, 2, 2, **decoder, masking_ratio=0.5))
    image = torch.rand(2, 1, *[16] * axes)
    output = {"label": {"image": image}, "pred": network(image)}
    finish(snapshots.ReconstructionSnapshot(tmp_path / "a.png", [2.0] * 3), output, network=network)
    given = drawn["draw_masked_image" if axes == 2 else "draw_reconstruction"]
    shown, masked, guess = given[:3]
    np.testing.assert_array_equal(shown, image[0, 0].numpy())
    assert masked.mean() == 0.5 and np.allclose(guess[~masked], shown[~masked]) and (guess != shown).any()


@pytest.mark.parametrize("regions", [False, True])
def test_prediction_and_reference_are_of_the_last_case(regions: bool, drawn: dict, tmp_path: Path) -> None:
    label = torch.zeros(3 if regions else 1, 4, 4, 4)
    label[0, :3] = 1
    if regions:
        label[2, :1] = 1  # inside the first, and smaller
    image = MetaTensor(torch.rand(1, 4, 4, 4), affine=torch.eye(4), meta={"filename_or_obj": "/data/case7.nii.gz"})
    output = [{"pred": torch.zeros(1)}, {"pred": 1 - label, "label": label, "image": image}]
    finish(snapshots.SegmentationSnapshot(tmp_path / "a.png", ["a", "b", "c"]), output, [{}, {}])
    shown, prediction, spacing, names, path, title, more = drawn["draw_overlay"]
    np.testing.assert_array_equal(shown, image[0].numpy())
    expected = np.zeros((4, 4, 4))
    expected[:3] = 1
    if regions:
        expected[:1] = 3
    np.testing.assert_array_equal(more["reference"], expected)
    assert title == "case7" and spacing == (1, 1, 1) and names[3] == "c" and path == tmp_path / "a.png"
    assert (prediction[:3] != 1).all() and (prediction[3] > 0).all()


def test_the_background_is_drawn_as_dark_as_the_darkest_voxel(drawn: dict, tmp_path: Path) -> None:
    image = torch.linspace(-1, 1, 64).reshape(1, 4, 4, 4)
    image[0, 0] = 0  # air, which normalisation puts in the middle of the range
    item = {"image": MetaTensor(image, meta={"filename_or_obj": "case.nii.gz"}), "label": torch.ones(1, 4, 4, 4)}
    finish(snapshots.SegmentationSnapshot(tmp_path / "a.png", background=0), [item | {"pred": item["label"]}], [{}])
    shown = drawn["draw_overlay"][0]
    assert (shown[0] == image.min().item()).all()
    np.testing.assert_array_equal(shown[1:], image[0, 1:].numpy())


def test_roc_curves_are_of_everything_the_metric_has_seen(drawn: dict, tmp_path: Path) -> None:
    metric, scores, truth = MeanAUC(), torch.rand(6, 2), torch.tensor([[0, 1], [1, 0]] * 3)
    for rows in (slice(0, 4), slice(4, 6)):
        metric(scores[rows], truth[rows])
    finish(snapshots.RocSnapshot(tmp_path / "a.png", metric, ["a", "b"]), [])
    np.testing.assert_array_equal(drawn["draw_roc"][0], truth.numpy())
    np.testing.assert_array_equal(drawn["draw_roc"][1], scores.numpy())


def test_only_the_main_process_draws(drawn: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    metric = MeanAUC()
    metric(torch.rand(2, 1), torch.tensor([[0], [1]]))
    finish(snapshots.RocSnapshot(tmp_path / "a.png", metric, ["a"]), [])
    assert not drawn


def test_a_run_that_saw_nothing_leaves_no_picture(drawn: dict, tmp_path: Path) -> None:
    """So is a finished pre-training that is resumed."""
    finish(snapshots.ReconstructionSnapshot(tmp_path / "a.png"), None)
    assert not drawn
