"""Checkpoints with any fault in their bytes, their members or their tensors; nothing in them is executed."""

from __future__ import annotations

import copy
import io
import os
import pickle
import zipfile
from argparse import Namespace
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from custom.checkpoints import load_weights, read_checkpoint, write_checkpoint
from custom.export import to_monai, to_selfmedmae
from custom.networks import MAE, ViTClassifier
from custom.transfer import load_encoder
from scripts.convert import convert

from .harness import endures, fuzz
from .mutations import damaged

SIZES = {"img_size": [16, 16], "patch_size": 8, "hidden_size": 12, "num_layers": 1, "num_heads": 1}
DECODER = {"decoder_hidden_size": 12, "decoder_num_layers": 1, "decoder_num_heads": 1}
SPRUNG = "SPRUNG"


class Trap:
    """Code that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (SPRUNG,)


class Bytes:
    """An array of a terabyte, once it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return bytearray, (2**40,)


def classifier() -> ViTClassifier:
    return ViTClassifier(in_channels=1, num_classes=2, **SIZES)


def autoencoder() -> MAE:
    return MAE(in_channels=1, **DECODER, **SIZES)


@cache
def states() -> tuple[dict[str, Tensor], ...]:
    """Weights of both networks, and as other projects call them."""
    torch.manual_seed(0)
    own = classifier().state_dict(), autoencoder().state_dict()
    volumes = MAE(in_channels=1, **DECODER, **(SIZES | {"img_size": [16, 16, 16]})).state_dict()
    return *own, to_monai(own[1]), to_monai(own[0]), to_selfmedmae(volumes)


def saved(content: Any, new: bool = True) -> bytes:
    """A file of torch.save, in its format since 1.6 or before."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def files() -> list[bytes]:
    return [saved({"model": state}, new) for state in states()[:2] for new in (True, False)]


STRANGE: tuple[Callable[[Tensor], Any], ...] = (
    lambda value: value * float("nan"), lambda value: value / 0, lambda value: value[None],
    lambda value: value.flatten(),
    lambda value: value[:0], lambda value: value.double(), lambda value: value.half(), lambda value: value.long(),
    lambda value: value.bool(), lambda value: value.to(torch.complex64), lambda value: value.float().to_sparse(),
    lambda value: value.float().new_zeros(1).expand(2**20, 2**20, 2**10),
    lambda value: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8), lambda value: value.to("meta"),
    lambda value: torch.tensor(1.0), lambda value: value.tolist(), lambda value: None, lambda value: {},
    lambda value: "x", lambda value: Namespace(a=1), lambda value: value + 1, lambda value: value - 9,
    lambda value: value.float().to(torch.float8_e4m3fn), lambda value: torch.nn.Parameter(value.float()),
)  # fmt: skip
NAMES = (
    "", "x", "encoder.x", "blocks.1.norm1.weight", "pos_embed", "decoder.x", "module.cls_token", "grid_size",
    "mask_token", "patch_embed.proj.weight", "norm.weight",
    "cls_token", "encoder_pos_embed", "encoder_to_decoder.weight",
    "encoder.patch_embed.proj.weight", "decoder_pred.weight", "patch_embedding.position_embeddings",
    "patch_embedding.patch_embeddings.weight", "decoder.encoder1.layer.conv1.conv.weight", 3, None, (1, 2), True,
)  # fmt: skip
WRAPPED: tuple[Callable[[Any], Any], ...] = (
    lambda state: state, lambda state: {"model": state}, lambda state: {"state_dict": state, "epoch": 1},
    lambda state: {"model": {"model": state}}, lambda state: [state], lambda state: {"model": None, **state},
    lambda state: {}, lambda state: None, lambda state: {"model": {}}, lambda state: {"model": {"state_dict": state}},
    lambda state: {"model": state, "args": Namespace(lr=1)},
)  # fmt: skip


@st.composite
def odd_weights(draw: st.DrawFn) -> bytes:
    """Weights with tensors that are odd, missing, new, or called something else."""
    state: dict[Any, Any] = dict(draw(st.sampled_from(states())))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(list(state) or [""]))
        kind = draw(st.sampled_from(("change", "change", "rename", "remove", "add")))
        value = state.get(name, torch.zeros(2))
        if kind in ("rename", "remove"):
            state.pop(name, None)
        if kind in ("rename", "add"):
            state[draw(st.sampled_from(NAMES))] = value
        elif kind == "change" and isinstance(value, Tensor) and value.layout == torch.strided and value.numel() < 9999:
            try:
                state[name] = draw(st.sampled_from(STRANGE))(value)
            except (RuntimeError, IndexError, NotImplementedError):
                continue  # what this tensor cannot become, as it is odd already
    return saved(draw(st.sampled_from((*WRAPPED[:2] * 5, *WRAPPED)))(state), draw(st.booleans()))


@st.composite
def odd_archives(draw: st.DrawFn) -> bytes:
    """A checkpoint's archive with members removed, renamed, replaced or compressed."""
    file, source = io.BytesIO(), zipfile.ZipFile(io.BytesIO(draw(st.sampled_from(files()[::2]))))
    strange = draw(st.sets(st.sampled_from(source.namelist()), max_size=3))
    with zipfile.ZipFile(file, "w", draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))) as target:
        for name in source.namelist():
            content = source.read(name)
            if name in strange:
                kind = draw(st.sampled_from(("remove", "rename", "replace", "damage", "trap")))
                name = draw(st.sampled_from(("x", "../x", "archive/data.pkl", "/x"))) if kind == "rename" else name
                content = draw(st.binary(max_size=32)) if kind == "replace" else content
                content = draw(damaged(content)) if kind == "damage" else content
                content = pickle.dumps({"model": Trap()}, 2) if kind == "trap" else content
                if kind == "remove":
                    continue
            target.writestr(name, content)
    return file.getvalue()


def traps() -> SearchStrategy[bytes]:
    """What would make a folder if it were executed."""
    contents = [
        Trap(),
        {"model": Trap()},
        {"model": states()[0] | {"head.bias": Trap()}},
        {"model": {}, "args": Trap()},
    ]
    plain = [pickle.dumps(content, protocol) for content in contents for protocol in (0, 2, 4)]
    return st.sampled_from([*plain, *(saved(content, new) for content in contents for new in (True, False))])


FAULTS = {
    "damaged files": (200, st.sampled_from(files()).flatmap(damaged)),
    "odd weights": (200, odd_weights()),
    "odd archives": (100, odd_archives()),
    "damaged traps": (60, traps().flatmap(lambda content: st.just(content) | damaged(content))),
}


def read(content: bytes, folder: Path) -> None:
    """As weights of a network, as a pre-trained encoder, and by the converter, whose output is complete or absent."""
    path, output = folder / "weights.pt", folder / "out" / "converted.pt"
    path.write_bytes(content)
    endures(lambda: check(load_weights(classifier(), path)))
    endures(lambda: check(load_encoder(classifier(), path)))
    endures(lambda: convert(str(path), str(output)))
    left = list(output.parent.glob("*")) + list(output.parent.glob(".*"))
    assert left in ([], [output]), "a half-written file"
    if left:
        read_checkpoint(output)
        output.unlink()
    assert not Path(SPRUNG).exists(), "code in a checkpoint was executed"


def check(network: torch.nn.Module) -> None:
    """What is accepted can be used."""
    assert network(torch.zeros(1, 1, 16, 16)).isfinite().all()


@pytest.mark.parametrize("fault", FAULTS)
def test_weights_are_loaded_or_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs, strategy = FAULTS[fault]
    fuzz(inputs, strategy, lambda content: read(content, tmp_path))


def test_an_archive_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    write_checkpoint({"model": {"weight": torch.zeros(2)}}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/1", bytes(2**26))
        for number in range(2, 66):  # the same bytes once more
            archive.filelist.append(copy.copy(archive.filelist[-1]))
            archive.filelist[-1].filename = f"archive/data/{number}"
    assert path.stat().st_size < 2**20
    assert "unpacks to" in endures(lambda: read_checkpoint(path))


def test_the_trap_of_these_tests_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Trap()))
    assert Path(SPRUNG).is_dir()


@pytest.mark.parametrize("new", [True, False])
def test_a_small_file_that_makes_a_large_array_is_refused_before_it_does(tmp_path: Path, new: bool) -> None:
    (tmp_path / "small.pt").write_bytes(saved({"model": Bytes()}, new))
    assert "array of bytes" in endures(lambda: read_checkpoint(tmp_path / "small.pt"))


def test_an_old_file_that_also_ends_as_an_archive_is_no_way_around(tmp_path: Path) -> None:
    (tmp_path / "both.pt").write_bytes(saved({"model": Bytes()}, new=False) + files()[0])
    assert "array of bytes" in endures(lambda: read_checkpoint(tmp_path / "both.pt"))
