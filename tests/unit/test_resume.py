"""A resumed run equals an unbroken one, and what does not fit is not resumed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from torch import nn
from torch.utils.data import Dataset

from custom.checkpoints import read_checkpoint
from custom.data import EpochSampler
from custom.errors import InputError
from custom.handlers import ClipGradients, EarlyStop
from custom.losses import MaskedPatchLoss
from custom.networks import MAE, UNETR, MaskedPretraining
from custom.optim import adamw, warmup_cosine
from custom.pretraining import prepare_batch
from custom.resume import Resumable, random_states, set_random_states
from scripts.tiny import ROOT


class Crops(Dataset):
    """Random crops that are a function of the index alone, as those of CropDataset."""

    def __init__(self, cases: int) -> None:
        self.cases = cases

    def __len__(self) -> int:
        return self.cases

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(index))
        return {"image": image, "label": image, "valid": torch.ones(1, 16, 16, dtype=torch.bool)}


def pretraining(width: int = 24) -> tuple[nn.Module, dict[str, Any]]:
    mae = MAE(1, [16, 16], 4, width, 1, 2, decoder_hidden_size=24, decoder_num_layers=1, decoder_num_heads=2)
    settings = {"prepare_batch": prepare_batch, "loss_function": MaskedPatchLoss([4, 4])}
    return MaskedPretraining(mae), settings


def segmentation(_: int = 24) -> tuple[nn.Module, dict[str, Any]]:
    """With drop path, which draws from torch's global generator."""
    return UNETR(1, 1, [16, 16], 4, 4, 24, 3, 2, drop_path_rate=0.5), {"loss_function": nn.MSELoss()}


def train(path: Path, epochs: int, resume: bool = False, build: Any = pretraining, **more: Any) -> SupervisedTrainer:
    """Train for `epochs` in all, of 5 that the schedule is for, and return the trainer."""
    torch.manual_seed(more.get("seed", 0))
    network, settings = build(more.get("width", 24))
    optimizer = adamw(network, 1e-2)
    schedule = warmup_cosine(optimizer, 2, 10)
    dataset = Crops(more.get("cases", 4))
    loader = DataLoader(dataset, batch_size=2, sampler=EpochSampler(dataset))
    objects = {"network": network, "optimizer": optimizer, "lr_scheduler": schedule}
    trainer = SupervisedTrainer(
        "cpu", epochs, loader, network, optimizer, decollate=False, **settings,
        train_handlers=[
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False), ClipGradients(1.0),
            Resumable(path, objects, resume),
        ],
    )  # fmt: skip
    trainer.run()
    return trainer


@pytest.mark.parametrize("build", [pretraining, segmentation])
@pytest.mark.parametrize("broken_after", [1, 3])
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(build: Any, broken_after: int, tmp_path: Path) -> None:
    unbroken = train(tmp_path / "unbroken.pt", 5, build=build)
    train(tmp_path / "broken.pt", broken_after, build=build)
    resumed = train(tmp_path / "broken.pt", 5, resume=True, build=build, seed=99)  # other initial weights
    assert resumed.state.epoch == 5 and resumed.state.iteration == 10
    weights = unbroken.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    before, after = read_checkpoint(tmp_path / "unbroken.pt"), read_checkpoint(tmp_path / "broken.pt")
    for key, moments in before["optimizer"]["state"].items():
        assert all(torch.equal(value, after["optimizer"]["state"][key][name]) for name, value in moments.items())
    assert before["lr_scheduler"] == after["lr_scheduler"] and before["run"] == after["run"]


def test_a_run_that_was_complete_trains_no_further(tmp_path: Path) -> None:
    done = train(tmp_path / "last.pt", 2)
    again = train(tmp_path / "last.pt", 2, resume=True, seed=99)
    weights = done.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_without_resume_an_existing_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_text("not a checkpoint")
    assert train(tmp_path / "last.pt", 1).state.epoch == 1
    assert read_checkpoint(tmp_path / "last.pt")["run"] == {"epoch": 1, "iteration": 2, "epoch_length": 2}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cases": 8}, "2 iterations an epoch, this one has 4; resume with the same data"),
        ({"width": 48}, "'network' in .*last.pt does not fit this run"),
    ],
)
def test_a_run_of_another_kind_is_not_resumed(change: dict[str, int], words: str, tmp_path: Path) -> None:
    train(tmp_path / "last.pt", 1)
    with pytest.raises(InputError, match=words) as caught:
        train(tmp_path / "last.pt", 2, resume=True, **change)
    assert "\n" not in str(caught.value)


def test_what_is_not_a_run_is_not_resumed(tmp_path: Path) -> None:
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt holds no 'network'"):
        train(tmp_path / "last.pt", 2, resume=True)


def test_a_run_that_was_killed_before_it_saved_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("last", "model"):
        (tmp_path / f".123.{name}.pt").write_text("half of it")
    train(tmp_path / "last.pt", 2, resume=True)
    assert "nothing to resume from" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "last.previous.pt", "last.pt"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing"])
def test_the_checkpoint_before_a_broken_one_is_used_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unbroken, path = train(tmp_path / "unbroken.pt", 5), tmp_path / "last.pt"
    train(path, 3)
    whole = path.read_bytes()
    path.unlink() if damage == "missing" else path.write_bytes(whole[: len(whole) // 2 * (damage == "truncated")])
    resumed = train(path, 5, resume=True, seed=99)
    assert "last.previous.pt" in caplog.text
    weights = unbroken.network.state_dict(), resumed.network.state_dict()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_a_broken_checkpoint_never_takes_the_place_of_the_good_one_before_it(tmp_path: Path) -> None:
    train(tmp_path / "last.pt", 3)
    good = (tmp_path / "last.previous.pt").read_bytes()
    (tmp_path / "last.pt").write_bytes(b"PK")
    train(tmp_path / "last.pt", 3, resume=True)
    assert (tmp_path / "last.previous.pt").read_bytes() == good
    assert all(read_checkpoint(tmp_path / f"last{kind}.pt")["run"]["epoch"] == 3 for kind in ("", ".previous"))


def test_a_new_run_does_not_keep_a_checkpoint_of_another_run(tmp_path: Path) -> None:
    train(tmp_path / "last.pt", 5)
    (tmp_path / ".2024.notes.csv").touch()
    train(tmp_path / "last.pt", 1)
    saved = {path.name: read_checkpoint(path)["run"]["epoch"] for path in tmp_path.glob("*.pt")}
    assert saved.pop("last.earlier.pt") == 5  # set aside, with a warning
    assert saved and set(saved.values()) == {1} and (tmp_path / ".2024.notes.csv").exists()


def test_without_one_before_it_a_broken_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"last\.pt is damaged, or no checkpoint"):
        train(tmp_path / "last.pt", 2, resume=True)


def test_a_run_that_stopped_early_stays_so(tmp_path: Path) -> None:
    def run(resume: bool) -> Engine:
        engine = empty_engine()
        validator = empty_engine(best_metric=0.5, best_metric_epoch=2)
        Resumable(tmp_path / "last.pt", {}, resume=resume, validator=validator).attach(engine)
        EarlyStop(validator, patience=2).attach(engine)
        engine.run([0], max_epochs=9)
        return engine

    assert run(resume=False).state.epoch == 4
    assert run(resume=True).state.epoch == 4


def empty_engine(**state: Any) -> Engine:
    """An engine of no work."""
    engine = Engine(lambda *_: None)
    for name, value in state.items():
        setattr(engine.state, name, value)
    return engine


def test_the_best_validation_so_far_survives_a_resume(tmp_path: Path) -> None:
    validator = empty_engine(best_metric=torch.tensor(0.75), best_metric_epoch=3)
    engine = empty_engine()
    Resumable(tmp_path / "last.pt", {}, validator=validator).attach(engine)
    engine.run([0], max_epochs=4)
    fresh = empty_engine(best_metric=-1, best_metric_epoch=-1)
    resumed = empty_engine()
    Resumable(tmp_path / "last.pt", {}, resume=True, validator=fresh).attach(resumed)
    resumed.run([0], max_epochs=6)
    assert fresh.state.best_metric == 0.75 and fresh.state.best_metric_epoch == 3
    assert resumed.state.iteration == 6


@pytest.mark.parametrize("device", ["cpu"] + ["cuda"] * torch.cuda.is_available())
def test_the_generators_of_every_device_are_kept(device: str) -> None:
    states = random_states()
    drawn = torch.rand(4, device=device)
    torch.rand(7, device=device)
    set_random_states(states)
    assert torch.equal(torch.rand(4, device=device), drawn)


def test_a_run_of_a_machine_with_a_gpu_resumes_on_one_without(monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"cpu": torch.get_rng_state(), "cuda": torch.zeros(16, dtype=torch.uint8)}
    drawn = torch.rand(4)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_random_states(states)
    assert torch.equal(torch.rand(4), drawn)


HOLD = """
import sys, time
from pathlib import Path
from custom.files import hold_folder
file = hold_folder(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_run_is_kept_out_of_a_folder_until_the_first_has_ended(tmp_path: Path) -> None:
    train(tmp_path / "last.pt", 1)
    train(tmp_path / "last.pt", 2, resume=True)  # by the same process, after the first
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another run writes into"):
            train(tmp_path / "last.pt", 3, resume=True)
        other.kill()
    train(tmp_path / "last.pt", 3, resume=True)
