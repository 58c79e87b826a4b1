"""Timed steps of training, and the curves that compare number types."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scripts.bench import unetr_curve
from scripts.bench.mae import masked_loss
from scripts.bench.training import timed_steps


def test_a_timed_step_trains_and_its_parts_make_up_its_time() -> None:
    torch.manual_seed(0)
    network, image = nn.Linear(4, 1), torch.rand(8, 4)
    before = network.weight.detach().clone()
    found = timed_steps(lambda: network(image).square().mean(), torch.optim.AdamW(network.parameters()), repeats=1)
    assert not torch.equal(network.weight, before)
    assert found["s"] == pytest.approx(found["forward s"] + found["backward s"] + found["update s"])


def test_the_baselines_loss_counts_masked_patches_alone() -> None:
    image, mask = torch.rand(1, 1, 32, 16, 16), torch.tensor([[1, 0]])
    values = torch.rand(1, 2, 4096)
    changed = values.clone()
    changed[:, 1] += 1
    losses = [masked_loss(lambda _, v=v: (v, mask), image).item() for v in (values, changed, values + 1)]
    assert losses[0] == losses[1] != losses[2]


def test_every_order_has_the_same_crops() -> None:
    scans = [(torch.rand(6, 6, 6), torch.rand(6, 6, 6)) for _ in range(2)]
    orders = [[float(image.sum()) for image, _ in unetr_curve.random_crops(scans, 12, 4, order)] for order in (0, 1)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


@pytest.mark.slow
def test_curves_are_written_and_bfloat16_stays_near(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unetr_curve.compare(4, 32, 192, 4, 1, output_dir=str(tmp_path))
    table = np.genfromtxt(tmp_path / "unetr_curve.csv", delimiter=",", skip_header=1)
    assert table.shape == (4, 4) and (tmp_path / "unetr_curve.png").stat().st_size
    assert np.abs(table[:, 3] - table[:, 1]).max() < 0.02
    assert "bfloat16" in capsys.readouterr().out
