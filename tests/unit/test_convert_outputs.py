"""Weights of others give in our networks what they give in theirs, and what differs is said."""

import logging
from argparse import Namespace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from monai.networks.nets import ViT as MonaiViT

from custom.checkpoints import load_weights, read_weights
from custom.convert import to_custom
from custom.errors import InputError
from custom.networks import ViTClassifier
from scripts.convert import convert

from .test_convert import SMALL, load, perturbed, with_our_epsilon


def test_the_tanh_after_monais_default_head_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sizes = SMALL | {"mlp_dim": 96, "num_classes": 3, "spatial_dims": 2}
    theirs = with_our_epsilon(perturbed(MonaiViT(1, (16, 16), 8, classification=True, **sizes)))
    ours = ViTClassifier(1, [16, 16], 8, 3, **SMALL, pos_embed="learnable")
    ours = load(ours, to_custom(theirs.state_dict()), tmp_path)
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected, found = theirs(image)[0], ours(image)
    assert torch.allclose(found.tanh(), expected, atol=1e-5) and torch.allclose(found, expected.atanh(), atol=1e-5)
    assert not torch.allclose(found, expected, atol=1e-2)
    assert "apply tanh to our network's outputs to get theirs" in caplog.text
    caplog.clear()
    plain = MonaiViT(1, (16, 16), 8, classification=True, post_activation="", **sizes)
    to_custom(plain.state_dict())
    assert "tanh" not in caplog.text


def test_a_grid_is_assumed_aloud_and_never_against_the_weights(caplog: pytest.LogCaptureFixture) -> None:
    ours = ViTClassifier(1, [16, 64], 8, 3, **SMALL).state_dict()
    theirs = {key: value for key, value in ours.items() if key != "grid_size"}
    with caplog.at_level(logging.INFO, logger="custom.convert"):
        assert to_custom(theirs)["grid_size"].tolist() == [4, 4]
        assert "patches in a grid of 4 x 4, assumed; --grid says otherwise" in caplog.messages
        caplog.clear()
        assert to_custom(theirs, [2, 8])["grid_size"].tolist() == [2, 8]
        assert to_custom(ours)["grid_size"].tolist() == to_custom(ours, (2, 8))["grid_size"].tolist() == [2, 8]
        assert "assumed" not in caplog.text
    for weights in (ours, {f"encoder.{key}": value for key, value in ours.items()}):
        with pytest.raises(InputError, match=r"carry their grid, \[2, 8\], which is not the \[4, 4\] given"):
            to_custom(weights, [4, 4])


def test_a_saved_command_line_is_read_and_other_objects_are_not(tmp_path: Path) -> None:
    network = perturbed(ViTClassifier(1, [16, 16], 8, 3, **SMALL))
    theirs = {key: value for key, value in network.state_dict().items() if key != "grid_size"}
    saved = {"model": theirs, "epoch": 3, "args": Namespace(lr=1e-3, betas=(0.9, 0.95), device="cuda")}
    torch.save(saved, tmp_path / "theirs.pth")
    convert(str(tmp_path / "theirs.pth"), str(tmp_path / "ours.pt"))
    restored = load_weights(ViTClassifier(1, [16, 16], 8, 3, **SMALL), tmp_path / "ours.pt").state_dict()
    assert all(torch.equal(restored[key], value) for key, value in network.state_dict().items())
    with pytest.raises(InputError, match="is not a checkpoint of plain tensors"):
        read_weights(tmp_path / "theirs.pth")  # our own files hold no objects
    torch.save(saved | {"args": Namespace(lr=Fraction(1, 1000))}, tmp_path / "strange.pth")
    with pytest.raises(InputError, match="is not a checkpoint of plain tensors"):
        convert(str(tmp_path / "strange.pth"), str(tmp_path / "no.pt"))
    assert not (tmp_path / "no.pt").exists()
