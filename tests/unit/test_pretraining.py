"""What is watched in pre-training: ranks, image quality, and the gate of the trivial predictors."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import Tensor
from torch.utils.data import Dataset

from custom.losses import MaskedPatchLoss
from custom.networks import MAE, MaskedPretraining
from custom.networks.mae import Prediction
from custom.networks.tokens import gather_tokens
from custom.pretraining import (
    TRIVIAL,
    PretrainingMonitor,
    block_statistics,
    effective_rank,
    image_quality,
    passes_gate,
    prepare_batch,
)

LOSS = MaskedPatchLoss([4, 4])


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the monitor logged; other loggers speak at levels that depend on what ran before."""
    return [record.getMessage() for record in caplog.records if record.name == "custom.pretraining"]


def pretraining(img_size: tuple[int, ...] = (16, 16), norm_pix_loss: bool = True) -> MaskedPretraining:
    torch.manual_seed(0)
    decoder = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
    return MaskedPretraining(MAE(1, img_size, 4, 24, 2, 2, **decoder, norm_pix_loss=norm_pix_loss))


class Cheat(MaskedPretraining):
    """Predicts the truth, which it looks up in the hidden patches."""

    def forward(self, image: Tensor) -> Prediction:
        prediction = super().forward(image)
        truth = gather_tokens(LOSS.target(image), prediction.hidden)
        return prediction._replace(values=truth + 0.0 * prediction.values)


class Crops(Dataset):
    """Smooth crops with noise, each a function of its index and the seed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(100 * self.seed + index))
        return {"image": image + torch.linspace(0, 1, 16), "valid": torch.ones(1, 16, 16, dtype=torch.bool)}


def watch(network: MaskedPretraining, path: Path, epochs: int = 3, **more: Any) -> tuple[PretrainingMonitor, Any]:
    """Train without learning anything, 2 iterations an epoch, under a monitor."""
    monitor = PretrainingMonitor(LOSS, path, **more)
    trainer = SupervisedTrainer(
        "cpu", epochs, DataLoader(Crops(), batch_size=2), network, torch.optim.SGD(network.parameters(), lr=0.0), LOSS,
        prepare_batch=prepare_batch, decollate=False, train_handlers=[monitor],
    )  # fmt: skip
    trainer.run()
    return monitor, trainer


def read_rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("dimensions", [4, 16, 48])
def test_isotropic_noise_has_the_rank_of_its_dimensions(dimensions: int) -> None:
    tokens = torch.randn(20 * dimensions**2, dimensions, generator=torch.Generator().manual_seed(0))
    assert effective_rank(tokens) == pytest.approx(dimensions, rel=0.01)
    assert effective_rank(100 * tokens + 50) == pytest.approx(effective_rank(tokens), rel=1e-3)


def test_tokens_along_one_line_have_rank_one_and_so_have_equal_tokens() -> None:
    line = torch.randn(500, 1) * torch.randn(1, 24) + torch.randn(24)
    assert effective_rank(line) == pytest.approx(1, abs=0.01)
    assert effective_rank(torch.ones(500, 24)) == pytest.approx(1, abs=0.01)


def test_block_statistics_are_of_the_visible_tokens_of_every_block() -> None:
    network, image = pretraining(), torch.rand(3, 1, 16, 16)
    keep = network.mae.mask(image)[0]
    numbers = block_statistics(network, image, keep)
    assert list(numbers) == ["rms_block_0", "rank_block_0", "rms_block_1", "rank_block_1"]
    for index, hidden in enumerate(network.mae.encode(image, keep)[1]):
        tokens = hidden[:, 1:].flatten(0, 1)
        assert numbers[f"rms_block_{index}"] == pytest.approx(tokens.square().mean().sqrt().item(), rel=1e-5)
        assert 1 < numbers[f"rank_block_{index}"] <= 12


def test_a_collapse_shows_in_the_rank() -> None:
    network, image = pretraining(), torch.rand(4, 1, 16, 16)
    keep = network.mae.mask(image)[0]
    healthy = block_statistics(network, image, keep)["rank_block_1"]
    for tensor in (network.mae.encoder.patch_embed.proj.weight, network.mae.encoder.pos_embed):
        tensor.data.zero_()
    assert healthy > 4 and block_statistics(network, image, keep)["rank_block_1"] < 1.1


@pytest.mark.parametrize("img_size", [(16, 16), (16, 12, 16)])
def test_a_perfect_reconstruction_has_the_highest_psnr_and_an_ssim_of_one(img_size: tuple[int, ...]) -> None:
    network, image = pretraining(img_size, norm_pix_loss=False), torch.rand(3, 1, *img_size)
    loss = MaskedPatchLoss(network.mae.patch_size, norm_pix_loss=False)
    guess = network(image)
    truth = guess._replace(values=gather_tokens(loss.target(image), guess.hidden))
    target = {"image": image, "valid": torch.ones(3, 1, *img_size, dtype=torch.bool)}
    best, off = image_quality(network, target, truth), image_quality(network, target, guess)
    assert best["masked_psnr"] > 100 and best["masked_ssim"] == pytest.approx(1, abs=1e-5)
    assert off["masked_psnr"] < 20 and off["masked_ssim"] < 0.9


def test_psnr_is_that_of_the_hidden_voxels() -> None:
    network, image = pretraining(norm_pix_loss=False), torch.rand(3, 1, 16, 16)
    hidden = network(image).hidden
    truth = gather_tokens(MaskedPatchLoss([4, 4], norm_pix_loss=False).target(image), hidden)
    guess = Prediction(truth + 0.1, hidden)
    target = {"image": image, "valid": torch.ones(3, 1, 16, 16, dtype=torch.bool)}
    assert image_quality(network, target, guess)["masked_psnr"] == pytest.approx(20, abs=0.01)


def test_padding_does_not_count_in_psnr() -> None:
    network, image = pretraining(norm_pix_loss=False), torch.rand(3, 1, 16, 16)
    hidden = network(image).hidden
    valid = torch.ones(3, 1, 16, 16, dtype=torch.bool)
    valid[..., 8:] = False
    padded = image.masked_fill(~valid, 0.0)
    wrong = padded.masked_fill(~valid, 100.0)  # a guess that is right in the image and absurd in the padding
    guess = Prediction(gather_tokens(MaskedPatchLoss([4, 4], norm_pix_loss=False).target(wrong), hidden), hidden)
    assert image_quality(network, {"image": padded, "valid": valid}, guess)["masked_psnr"] > 100
    assert image_quality(network, {"image": padded, "valid": None}, guess)["masked_psnr"] < 0


def test_the_monitor_writes_one_row_a_measurement_and_reports_the_latest(tmp_path: Path) -> None:
    monitor, trainer = watch(pretraining(), tmp_path / "out" / "pretraining.csv", interval=2)
    rows = read_rows(tmp_path / "out" / "pretraining.csv")
    assert [row["iteration"] for row in rows] == [2, 4, 6]
    assert {"masked_loss", *TRIVIAL, "masked_psnr", "masked_ssim", "rms_block_1", "rank_block_0"} <= set(rows[0])
    assert rows == [pytest.approx(row) for row in monitor.rows]
    metrics = trainer.state.metrics
    assert metrics["masked_loss"] == rows[-1]["masked_loss"]
    assert metrics["lowest_rank"] == min(rows[-1]["rank_block_0"], rows[-1]["rank_block_1"])
    assert not {key for key in metrics if "block" in key or "iteration" in key}
    assert metrics["gate_masked_loss"] == pytest.approx(sum(row["masked_loss"] for row in rows) / 3)
    assert metrics["gate_passed"] == float(monitor.passed) == 0


def test_the_monitored_loss_is_the_trainings_loss_and_the_mask_is_the_same(tmp_path: Path) -> None:
    monitor, trainer = watch(pretraining(), tmp_path / "pretraining.csv", epochs=1)
    assert monitor.rows[-1]["masked_loss"] == pytest.approx(trainer.state.output["loss"].item(), rel=1e-6)
    image, hidden = trainer.state.output["label"]["image"], trainer.state.output["pred"].hidden
    keep = [sorted(set(range(16)) - set(row)) for row in hidden.tolist()]
    expected = block_statistics(trainer.network, image, torch.tensor(keep))
    assert {key: monitor.rows[-1][key] for key in expected} == pytest.approx(expected)
    assert monitor.rows[-1]["flat_patch_loss"] == pytest.approx(1, abs=1e-3)


def test_a_network_that_knows_the_truth_passes_the_gate_once_the_window_is_full(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "custom.pretraining"):
        monitor, _ = watch(Cheat(pretraining().mae), tmp_path / "pretraining.csv", window=3)
    assert monitor.passed and monitor.rows[0]["masked_loss"] == pytest.approx(0, abs=1e-9)
    first, last = said(caplog)
    assert first.startswith("gate passed at iteration 3: masked loss 0.000; ")
    assert last.startswith("gate passed: masked loss 0.000; ")


def test_an_untrained_network_does_not_pass_the_gate(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "custom.pretraining"):
        monitor, _ = watch(pretraining(), tmp_path / "pretraining.csv", window=2)
    assert not monitor.passed and len(said(caplog)) == 1
    assert said(caplog)[0].startswith("gate NOT passed: masked loss")


@pytest.mark.parametrize("better", TRIVIAL)
def test_the_gate_is_closed_if_one_trivial_predictor_is_as_good(better: str) -> None:
    losses = {"masked_loss": 0.5} | dict.fromkeys(TRIVIAL, 0.6)
    assert passes_gate(losses) and not passes_gate(losses | {better: 0.5})


def test_the_gate_is_judged_on_the_mean_of_the_window() -> None:
    monitor = PretrainingMonitor(LOSS, "unused", window=2)
    monitor.rows = [{"iteration": i, "masked_loss": value} for i, value in enumerate([9.0, 1.0, 3.0])]
    assert monitor.means() == {"masked_loss": 2.0}
    monitor.window = None
    assert monitor.means() == {"masked_loss": pytest.approx(13 / 3)}


def test_an_evaluator_compares_with_the_mean_of_the_training_crops(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = DataLoader(Crops(seed=1), batch_size=3)
    monitor = PretrainingMonitor(LOSS, tmp_path / "held_out.csv", window=None, training_data=training)
    network = Cheat(pretraining().mae)
    evaluator = SupervisedEvaluator(
        "cpu", DataLoader(Crops(), batch_size=1), network, prepare_batch=prepare_batch, decollate=False,
        val_handlers=[monitor],
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "custom.pretraining"):
        evaluator.run()
    assert len(read_rows(tmp_path / "held_out.csv")) == 4
    mean = torch.stack([LOSS.target(Crops(seed=1)[index]["image"][None])[0] for index in range(4)]).mean(dim=0)
    assert torch.allclose(monitor.position_mean.predict(torch.arange(16)[None])[0], mean, atol=1e-6)
    hidden, target = evaluator.state.output["pred"].hidden, evaluator.state.output["label"]
    expected = LOSS(Prediction(mean[hidden[0]][None], hidden), target).item()
    assert monitor.rows[-1]["position_mean_loss"] == pytest.approx(expected, rel=1e-5)
    assert [message.split(":")[0] for message in said(caplog)] == ["gate passed"]
    means = monitor.means()
    assert evaluator.state.metrics["gate_passed"] == 1
    assert {key: evaluator.state.metrics[key] for key in TRIVIAL} == {key: means[key] for key in TRIVIAL}


def test_only_the_main_process_writes_the_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    watch(pretraining(), tmp_path / "pretraining.csv", epochs=1)
    assert not list(tmp_path.iterdir())


def test_a_batch_becomes_the_image_and_what_the_loss_compares_with() -> None:
    batch = next(iter(DataLoader(Crops(), batch_size=2)))
    image, target = prepare_batch(batch | {"label": torch.zeros(2)}, torch.device("cpu"), True)
    assert torch.equal(image, batch["image"]) and set(target) == {"image", "valid"}
    assert target["image"] is image and target["valid"] is None
    batch["valid"][0, ..., 5:] = False
    assert torch.equal(prepare_batch(batch, torch.device("cpu"))[1]["valid"], batch["valid"])
