"""The epoch reaches the indices: from the first one on, after a resume, and in every process."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader
from monai.engines import Trainer
from torch.utils.data import Dataset

from custom.data import EpochSampler


class Indices(Dataset):
    """Returns the index it is asked for."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> int:
        return index


class Recorder(Trainer):
    """A MONAI trainer that notes (epoch, indices) of each batch instead of training."""

    def __init__(self, loader: DataLoader, max_epochs: int) -> None:
        self.seen: list[tuple[int, list[int]]] = []
        super().__init__("cpu", max_epochs, loader, iteration_update=self.note)

    def note(self, _: Trainer, batch: torch.Tensor) -> None:
        self.seen.append((self.state.epoch, batch.tolist()))


def recorder(num_workers: int, max_epochs: int = 4) -> Recorder:
    dataset = Indices()
    sampler = EpochSampler(dataset, seed=7)
    loader = DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=num_workers)
    return Recorder(loader, max_epochs)


@pytest.fixture(params=[0, 2], ids=["no workers", "two workers"])
def num_workers(request: pytest.FixtureRequest) -> int:
    return request.param


def test_every_epoch_of_a_trainer_sees_each_case_once_with_its_own_epoch(num_workers: int) -> None:
    trainer = recorder(num_workers)
    trainer.run()
    orders = []
    for epoch in range(1, 5):
        indices = [index for at, batch in trainer.seen if at == epoch for index in batch]
        assert sorted(indices) == [5 * epoch + case for case in range(5)]
        orders.append([index % 5 for index in indices])
    assert len(set(map(tuple, orders))) > 1


def test_a_resumed_trainer_sees_what_an_unbroken_one_sees(num_workers: int) -> None:
    unbroken, first, second = recorder(num_workers), recorder(num_workers, max_epochs=2), recorder(num_workers)
    unbroken.run()
    first.run()
    second.load_state_dict({**first.state_dict(), "max_epochs": 4})
    second.run()
    assert second.seen[0][0] == 3
    assert first.seen + second.seen == unbroken.seen


def test_processes_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for rank in range(2):
        monkeypatch.setattr("custom.data.crops.rank_and_world_size", lambda rank=rank: (rank, 2))
        sampler = EpochSampler(Indices())
        sampler.set_epoch(3)
        drawn.append(list(sampler))
    assert len(drawn[0]) == len(drawn[1]) == 3
    assert set(drawn[0] + drawn[1]) == {15, 16, 17, 18, 19}


def test_without_shuffling_cases_come_in_order() -> None:
    assert list(EpochSampler(Indices(), shuffle=False)) == [0, 1, 2, 3, 4]
