"""From pre-training to fine-tuning: the encoder of a masked autoencoder becomes the encoder of UNETR or ViT."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

from torch import Tensor, nn

from .checkpoints import check_finite, read_weights
from .errors import InputError
from .networks.tokens import interpolate_position
from .networks.vit import ViT

logger = logging.getLogger(__name__)


def load_encoder(network: nn.Module, path: str | Path | None) -> nn.Module:
    """Fill the encoder of `network` from a pre-training checkpoint, and return the network.

    Args:
        network: a UNETR (its `encoder`) or a ViT; decoders and heads stay as they are.
        path: weights of a `MAE` of the same width, depth and patch size; None or "" leaves the network random.

    Position embeddings are interpolated to another grid, the patch projection is inflated to another number of
    channels. One line per group of tensors is logged. Raises InputError unless every encoder tensor was filled.
    """
    if not path:
        logger.info("encoder: random (no pretrained_weights given)")
        return network
    encoder = network if isinstance(network, ViT) else network.encoder
    prefix = "" if encoder is network else "encoder."
    source = {key.removeprefix("encoder."): value for key, value in read_weights(path).items() if _is_encoder(key)}
    if not source:
        raise InputError(f"{path} holds no encoder weights; expected keys such as 'encoder.blocks.0.norm1.weight'")
    target, notes = {key: value.cpu() for key, value in encoder.state_dict().items()}, {}  # as the source is
    needed = [key for key in target if not key.startswith("head.")]
    for key in needed:
        if key not in source:
            raise InputError(
                f"{path} lacks encoder tensor {key}, its encoder has another depth or design; "
                "set num_layers as in pre-training"
            )
    for key in needed:
        target[key], notes[key] = _fit(key, source, target, path)
    unused = sorted(set(source) - set(target))
    if unused:
        raise InputError(f"{path} has encoder tensors without a place, first {unused[0]}; use its depth and width")
    check_finite(target, path)
    encoder.load_state_dict(target)
    _report(notes, prefix, [name for name, _ in network.named_parameters()])
    return network


def _is_encoder(key: str) -> bool:
    return key.startswith(("encoder.", "blocks.", "patch_embed.", "norm.", "cls_token", "pos_embed", "grid"))


def _fit(key: str, source: dict[str, Tensor], target: dict[str, Tensor], path: str | Path) -> tuple[Tensor, str]:
    """A source tensor made to fit its place, and what was done to it."""
    value, place = source[key], target[key]
    if key == "grid_size":
        return place, "loaded"
    if key == "pos_embed" and not source["grid_size"].equal(target["grid_size"]):
        old, new = source["grid_size"].tolist(), target["grid_size"].tolist()
        if len(old) == len(new) and value.shape[2] == place.shape[2]:
            return interpolate_position(value, old, new), f"interpolated from grid {old} to {new}"
    if key == "patch_embed.proj.weight" and value.shape[0] == place.shape[0] and value.ndim == place.ndim:
        if value.shape[2:] != place.shape[2:]:
            raise InputError(
                f"{path} was pre-trained with patch_size {list(value.shape[2:])}, the network has "
                f"{list(place.shape[2:])}; set patch_size to the former or pre-train again"
            )
        if value.shape[1] != place.shape[1]:
            return inflate_channels(
                value, place.shape[1]
            ), f"inflated from {value.shape[1]} to {place.shape[1]} channels"
    if value.shape != place.shape:
        raise InputError(
            f"{path}: encoder tensor {key} is {list(value.shape)} but the network needs {list(place.shape)}; "
            "set hidden_size, num_layers and patch_size as in pre-training"
        )
    return value, "loaded"


def inflate_channels(weight: Tensor, channels: int) -> Tensor:
    """Patch projection (D, C, ...) for another number of channels: the mean filter, scaled to keep the response."""
    mean = weight.mean(dim=1, keepdim=True) * weight.shape[1] / channels
    return mean.expand(-1, channels, *weight.shape[2:]).clone()


def _report(notes: dict[str, str], prefix: str, names: list[str]) -> None:
    """Log one line per group: what was loaded and how, and what stays random."""
    groups: dict[str, list[str]] = {}
    for key, note in notes.items():
        groups.setdefault(re.sub(r"(blocks\.\d+|patch_embed|norm)\..*", r"\1", key), []).append(note)
    for group, done in groups.items():
        changed = sorted(set(done) - {"loaded"})
        logger.info(f"{prefix}{group}: {len(done)} tensors {', '.join(changed) or 'loaded'}")
    random = [name for name in names if name.removeprefix(prefix) not in notes]
    for group, count in Counter(".".join(name.split(".")[:-1][:2]) for name in random).items():
        logger.info(f"{group}: {count} tensors left random")
