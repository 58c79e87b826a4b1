"""Weights on disk: complete or absent, plain tensors, and a sentence for everything else."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import nn

from custom.checkpoints import load_weights, read_checkpoint, read_weights, write_checkpoint
from custom.errors import InputError
from custom.files import case_name, remove_unfinished, replacing
from custom.networks import MAE


class Unpicklable:
    """An object that fails while it is written."""

    def __reduce__(self) -> str:
        raise TypeError("no")


def network(width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.pt"
    state = network().state_dict()
    write_checkpoint({"model": state, "run": {"epoch": 3}, "best": 0.5}, path)
    content = read_checkpoint(path)
    assert content["run"] == {"epoch": 3} and content["best"] == 0.5
    assert all(torch.equal(content["model"][key], value) for key, value in state.items())
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("kind", [RuntimeError, OSError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, kind: type[BaseException]
) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")
    with pytest.raises(InputError if kind is OSError else kind), replacing(path) as beside:
        beside.write_text("half of the new")
        raise kind
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_finished_file_appears_at_once_by_a_change_of_name(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("old")
    with replacing(path) as beside:
        beside.write_text("new")
        assert path.read_text() == "old" and beside.parent == path.parent
        written = beside.stat().st_ino
    assert path.read_text() == "new" and path.stat().st_ino == written


def test_processes_of_two_machines_with_one_id_write_to_names_of_their_own(tmp_path: Path) -> None:
    with replacing(tmp_path / "shared.pt") as one, replacing(tmp_path / "shared.pt") as other:
        one.touch(), other.touch()
        assert one != other
        remove_unfinished(tmp_path)  # as after a kill
        assert not one.exists() and not other.exists()
        one.touch(), other.touch()


def test_an_unfinished_checkpoint_never_replaces_a_finished_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_checkpoint({"model": network().state_dict()}, path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_checkpoint({"model": Unpicklable()}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: Any, file: BinaryIO) -> None:
        file.write(b"half")
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")  # as torch says it

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(InputError, match=r"cannot write .*; free disk space"):
        write_checkpoint({}, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write .*model.pt: .*choose another folder"):
        write_checkpoint({}, tmp_path / "file" / "model.pt")


def test_a_checkpoint_that_the_system_refuses_to_open_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"cannot write .*model.pt: Permission denied"):
        write_checkpoint({}, tmp_path / "model.pt")


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
def test_weights_are_found_bare_or_wrapped(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(network().state_dict()), tmp_path / "model.pt")
    assert read_weights(tmp_path / "model.pt").keys() == network().state_dict().keys()


def test_loading_returns_the_network_with_every_tensor(tmp_path: Path) -> None:
    source, target = network(), network()
    source(torch.rand(5, 3))  # moves the buffers
    write_checkpoint({"model": source.state_dict()}, tmp_path / "model.pt")
    assert load_weights(target, tmp_path / "model.pt") is target
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (network(5), r"6 tensors differ, first 0.weight \(\(5, 3\) instead of \(4, 3\)\)"),
        (nn.Linear(3, 4), "first 0.weight \\(missing"),
        (nn.Sequential(*network(), nn.ReLU(), nn.Linear(4, 2)), r"2 tensors differ, first 3.weight .* of nothing"),
    ],
    ids=["another width", "another design", "more layers"],
)
def test_weights_of_another_architecture_change_nothing_and_say_what_differs(
    tmp_path: Path, other: nn.Module, words: str
) -> None:
    target = network()
    before = target[0].weight.clone()
    write_checkpoint({"model": other.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=words) as caught:
        load_weights(target, tmp_path / "model.pt")
    assert "model.pt" in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(target[0].weight, before)


def test_weights_of_a_masked_autoencoder_are_sent_to_where_they_belong(tmp_path: Path) -> None:
    mae = MAE(1, [8, 8], 4, 8, 1, 1, decoder_hidden_size=8, decoder_num_layers=1, decoder_num_heads=1)
    write_checkpoint({"model": mae.state_dict()}, tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"give them as pretrained_weights to the train\.json"):
        load_weights(network(), tmp_path / "model.pt")
    other = MAE(1, [8, 8], 4, 12, 1, 1, decoder_hidden_size=8, decoder_num_layers=1, decoder_num_heads=1)
    with pytest.raises(InputError, match=r"set its network options"):
        load_weights(other, tmp_path / "model.pt")


def write_text(path: Path) -> None:
    path.write_text("not a checkpoint")


def write_object(path: Path) -> None:
    torch.save(network(), path)


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weight": Path("anything")}))


def write_truncated(path: Path) -> None:
    torch.save(network().state_dict(), path)
    path.write_bytes(path.read_bytes()[:500])


NOT_WEIGHTS = {
    "text": write_text,
    "whole object": write_object,
    "pickle": write_pickle,
    "truncated": write_truncated,
    "list": lambda path: torch.save([torch.zeros(3)], path),
    "tensor": lambda path: torch.save(torch.zeros(3), path),
    "empty dictionary": lambda path: torch.save({}, path),
    "dictionary of numbers": lambda path: torch.save({"epoch": 3}, path),
    "empty file": lambda path: path.touch(),
    "folder": lambda path: path.mkdir(),
    "missing": lambda path: None,
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_what_is_not_a_checkpoint_is_one_sentence_naming_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "weights.pt"
    NOT_WEIGHTS[kind](path)
    with pytest.raises(InputError, match=r"weights\.pt") as caught:
        load_weights(network(), path)
    assert "\n" not in str(caught.value)


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_reading_a_checkpoint_executes_nothing_in_it(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2), "trap": Trap(tmp_path / "sprung")}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="no checkpoint of plain tensors"):
        read_checkpoint(tmp_path / "weights.pt")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", ["img0001.nii.gz", "img0001.nii", "folder/img0001.nii.gz", "img0001"])
def test_a_case_is_named_after_its_file(name: str) -> None:
    assert case_name(name) == "img0001"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_never_replaces_a_checkpoint(value: float, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    write_checkpoint({"model": {"weight": torch.ones(2)}}, path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="weight holds NaN or infinite values"):
        write_checkpoint({"optimizer": {"state": [{"weight": torch.tensor([1, value])}]}}, path)
    assert path.read_bytes() == before
