"""Weights on disk: plain tensors, written beside and renamed, read without executing anything."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from torch import Tensor, nn

from .errors import DivergedError, InputError
from .files import replacing
from .networks.tokens import interpolate_position

logger = logging.getLogger(__name__)


def write_checkpoint(content: Any, path: str | Path, previous: Path | None = None) -> None:
    """torch.save, complete or not at all; the file before it is kept as `previous`, and `path` is there at all times.

    InputError if the folder cannot be written or the disk is full, DivergedError if a tensor holds NaN or infinity.
    """
    broken = [name for name, value in tensors_in(content) if value.is_floating_point() and not is_finite(value)]
    if broken:
        raise DivergedError(
            f"{path} is not written, as {broken[0]} holds NaN or infinite values; go on from a state before training "
            "diverged, with a lower learning_rate"
        )
    with replacing(path) as beside:
        with beside.open("wb") as file:
            try:
                torch.save(content, file)
            except RuntimeError as error:  # what torch raises when its writer runs out of space
                raise OSError("the file could not be completed") from error
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and Path(path).is_file():
            keep(Path(path), previous)


def tensors_in(content: Any, name: str = "it") -> Iterator[tuple[str, Tensor]]:
    """(place, tensor) of all tensors in dictionaries and lists."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping | list | tuple):
        pairs = content.items() if isinstance(content, Mapping) else enumerate(content)
        for key, value in pairs:
            yield from tensors_in(value, str(key))


def is_finite(value: Tensor) -> bool:
    """Whether no element is NaN or infinite; float8 has no test of its own."""
    return bool((value.float() if value.dtype.itemsize == 1 else value).isfinite().all())


def keep(path: Path, previous: Path) -> None:
    """Give a file a second name, which a replaced `path` leaves alone; where links cannot be made, rename it."""
    link = previous.with_name(f".{os.getpid()}.{previous.name}")
    try:
        link.unlink(missing_ok=True)
        link.hardlink_to(path)
        link.replace(previous)
    except OSError:
        path.replace(previous)


ARCHIVE = b"PK\3\4"  # begins what torch reads as an archive, whatever else it may be


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint as a dictionary of plain values and tensors on the CPU; InputError if it is not one."""
    if not Path(path).is_file():
        raise InputError(f"weights {path} do not exist; check the path, or train first")
    try:
        content = torch.load(checked(Path(path)), map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # torch raises many kinds of errors for files that are not checkpoints
        raise InputError(
            f"{path} is damaged, or no checkpoint of plain tensors ({type(error).__name__}); copy it again, or export "
            "its state_dict"
        ) from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}, not a state_dict; export the network's state_dict")
    return dict(content)


def checked(path: Path) -> Path | BytesIO:
    """What torch is to load: a file that takes no more memory than its size says; else InputError.

    torch itself compresses nothing, and needs no array of bytes, the one thing that it lets a pickle make of any size.
    Files from before torch 1.6, which may claim any length, are read before.
    """
    with path.open("rb") as file:
        start = file.read(len(ARCHIVE))
    if start == ARCHIVE:
        with ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(2**30, 4 * path.stat().st_size):
                raise InputError(f"{path} unpacks to {unpacked:,} bytes, many times its size; save it with torch.save")
            pickles = [archive.read(name) for name in archive.namelist() if name.endswith(".pkl")]
    else:
        pickles = [path.read_bytes()]
    if any(b"bytearray" in content for content in pickles):
        raise InputError(f"{path} would make an array of bytes, which no weights need; do not use it")
    return path if start == ARCHIVE else BytesIO(pickles[0])


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The network's state_dict of a checkpoint, bare or under "model" or "state_dict"; InputError if unusable."""
    content = read_checkpoint(path)
    for key in ("model", "state_dict"):
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
    if not content or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()):
        raise InputError(f"{path} holds no network weights; it needs a state_dict, bare or under 'model'")
    if strange := [key for key, value in content.items() if not is_plain(value)]:
        raise InputError(f"{path} holds {strange[0]!r}, a sparse, quantized, complex or expanded tensor; save it dense")
    return content


def check_finite(weights: Mapping[str, Tensor], path: str | Path) -> None:
    """InputError where weights that a network is to take are not numbers."""
    if broken := [key for key, value in weights.items() if not is_finite(value)]:
        raise InputError(
            f"{path} holds NaN or infinite weights, first {broken[0]}; use a checkpoint from before training diverged"
        )


def is_plain(value: Tensor) -> bool:
    """Whether this is a tensor of real numbers that are all there: not sparse, quantized or one number repeated."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex():
        return False
    return value.device.type == "cpu" and value.nbytes <= value.untyped_storage().nbytes()


HEADS = ("decoder.out.", "head.")  # the only parameters whose shape depends on the number of classes


def load_weights(network: nn.Module, path: str | Path, any_img_size: bool = False) -> nn.Module:
    """Load every weight of `network` from `path`, return it; InputError if one is missing, new or of another shape.

    With `any_img_size`, a ViT takes weights of another img_size: its position embedding is interpolated.
    """
    weights = read_weights(path)
    if any_img_size:
        weights = on_grid_of(network.state_dict(), weights)
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    wrong = [key for key in expected if found.get(key) != expected[key]] + [key for key in found if key not in expected]
    if wrong:
        key = wrong[0]
        remedy = "use the config they were trained with, or set its network options (patch_size, hidden_size, ...)"
        if all(name.startswith(HEADS) for name in wrong):
            remedy = "they tell another number of classes; correct out_channels or class_names"
        if "decoder.mask_token" in set(weights) - set(expected):
            remedy = (
                "they are a masked autoencoder's; give them as pretrained_weights to the train.json that fine-tunes"
            )
        raise InputError(
            f"{path} is of another architecture than this {type(network).__name__}: {len(wrong)} tensors differ, "
            f"first {key} ({found.get(key, 'missing')} instead of {expected.get(key, 'nothing')}); "
            f"{remedy}"
        )
    check_finite(weights, path)
    network.load_state_dict(weights)
    return network


def on_grid_of(target: Mapping[str, Tensor], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The `weights` of a ViT with their position embedding on the grid of `target`, where the two differ."""
    grids = [state.get("grid_size") for state in (weights, target)]
    known = "pos_embed" in weights and all(grid is not None for grid in grids)
    if not known or len(grids[0]) != len(grids[1]) or grids[0].equal(grids[1].cpu()):
        return weights
    old, new = (grid.tolist() for grid in grids)
    logger.info(f"pos_embed: interpolated from grid {old} to {new}")
    position = interpolate_position(weights["pos_embed"], old, new)
    return weights | {"pos_embed": position, "grid_size": grids[1].cpu()}
