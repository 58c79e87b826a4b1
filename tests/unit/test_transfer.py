"""From pre-training to fine-tuning: everything of the encoder, or an error, and a line about each group."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from custom.checkpoints import write_checkpoint
from custom.errors import InputError
from custom.networks import MAE, UNETR, ViT, ViTClassifier
from custom.networks.tokens import interpolate_position, patchify
from custom.transfer import inflate_channels, load_encoder

TINY = {"img_size": [16, 16, 16], "patch_size": 8, "hidden_size": 24, "num_layers": 3, "num_heads": 2}


def perturbed(network: nn.Module) -> nn.Module:
    """With random values everywhere, so that equal tensors were copied."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


def mae(**more: Any) -> MAE:
    decoder = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
    return perturbed(MAE(**{"in_channels": 1} | TINY | decoder | more))


def unetr(**more: Any) -> UNETR:
    return UNETR(**{"in_channels": 1, "out_channels": 3, "feature_size": 4} | TINY | more)


def write(network: nn.Module, folder: Path) -> Path:
    write_checkpoint({"model": network.state_dict()}, folder / "mae.pt")
    return folder / "mae.pt"


def equal_but_for(ours: nn.Module, theirs: nn.Module, *but: str) -> None:
    source = theirs.state_dict()
    for key, value in ours.state_dict().items():
        assert key in but or torch.equal(value, source[key]), key


@pytest.mark.parametrize("kind", ["unetr", "vit", "classifier"])
def test_every_encoder_tensor_is_loaded_and_the_encoders_agree(kind: str, tmp_path: Path) -> None:
    source = mae()
    targets = {
        "unetr": unetr,
        "vit": lambda: ViT(1, **TINY, pos_embed="learnable"),
        "classifier": lambda: ViTClassifier(1, num_classes=5, **TINY, pos_embed="learnable"),
    }
    network = targets[kind]()
    assert load_encoder(network, write(source, tmp_path)) is network
    encoder = network.encoder if kind == "unetr" else network
    equal_but_for(encoder, source.encoder, "head.weight", "head.bias")
    image = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(ViT.forward(encoder.eval(), image)[0], source.encoder.eval()(image)[0])
    assert encoder.pos_embed.requires_grad


def test_decoder_and_head_stay_as_they_were(tmp_path: Path) -> None:
    path = write(mae(), tmp_path)
    network = unetr()
    before = {key: value.clone() for key, value in network.decoder.state_dict().items()}
    load_encoder(network, path)
    assert all(torch.equal(before[key], value) for key, value in network.decoder.state_dict().items())
    classifier = ViTClassifier(1, num_classes=5, **TINY)
    head = classifier.head.weight.clone()
    assert torch.equal(load_encoder(classifier, path).head.weight, head)


def test_a_fine_tuned_network_is_a_source_as_well(tmp_path: Path) -> None:
    source, network = perturbed(unetr()), unetr(out_channels=5)
    load_encoder(network, write(source, tmp_path))
    equal_but_for(network.encoder, source.encoder)


@pytest.mark.parametrize("path", [None, ""])
def test_without_weights_the_network_stays_random_and_says_so(
    path: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    network = unetr()
    before = [parameter.clone() for parameter in network.parameters()]
    with caplog.at_level(logging.INFO, "custom.transfer"):
        assert load_encoder(network, path) is network
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    assert [record.message for record in caplog.records] == ["encoder: random (no pretrained_weights given)"]


def test_positions_are_interpolated_to_another_grid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, network = mae(), unetr(img_size=[24, 16, 32])
    with caplog.at_level(logging.INFO, "custom.transfer"):
        load_encoder(network, write(source, tmp_path))
    equal_but_for(network.encoder, source.encoder, "pos_embed", "grid_size")
    expected = interpolate_position(source.encoder.pos_embed, [2, 2, 2], [3, 2, 4])
    assert torch.equal(network.encoder.pos_embed, expected)
    assert network.encoder.grid_size.tolist() == [3, 2, 4]
    assert "encoder.pos_embed: 1 tensors interpolated from grid [2, 2, 2] to [3, 2, 4]" in caplog.messages


def test_grids_of_equal_length_but_other_shape_are_interpolated(tmp_path: Path) -> None:
    source, network = mae(img_size=[32, 16, 8]), unetr(img_size=[8, 16, 32])
    load_encoder(network, write(source, tmp_path))
    expected = interpolate_position(source.encoder.pos_embed, [4, 2, 1], [1, 2, 4])
    assert torch.equal(network.encoder.pos_embed, expected)


@pytest.mark.parametrize(("old", "new"), [(1, 4), (4, 1), (3, 2)])
def test_the_patch_projection_is_inflated_to_other_channels(
    old: int, new: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, network = mae(in_channels=old), unetr(in_channels=new)
    with caplog.at_level(logging.INFO, "custom.transfer"):
        load_encoder(network, write(source, tmp_path))
    equal_but_for(network.encoder, source.encoder, "patch_embed.proj.weight")
    image = torch.rand(1, 1, 16, 16, 16)
    before, after = (
        encoder.patch_embed(patchify(image.expand(-1, channels, -1, -1, -1), [8, 8, 8]))
        for encoder, channels in ((source.encoder, old), (network.encoder, new))
    )
    assert torch.allclose(before, after, atol=1e-4), "the response to equal channels is kept"
    assert f"encoder.patch_embed: 2 tensors inflated from {old} to {new} channels" in caplog.messages


def test_inflated_filters_do_not_share_memory() -> None:
    inflated = inflate_channels(torch.ones(2, 1, 2, 2), 2)
    inflated[:, 0] = 7
    assert torch.equal(inflated[:, 1], torch.full((2, 2, 2), 0.5))


@pytest.mark.parametrize("kind", ["unetr", "classifier"])
def test_one_line_is_logged_for_each_group(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = unetr() if kind == "unetr" else ViTClassifier(1, num_classes=5, **TINY)
    with caplog.at_level(logging.INFO, "custom.transfer"):
        load_encoder(network, write(mae(), tmp_path))
    prefix = "encoder." if kind == "unetr" else ""
    loaded = {"cls_token": 1, "pos_embed": 1, "grid_size": 1, "patch_embed": 2, "norm": 2}
    loaded |= {f"blocks.{index}": 12 for index in range(3)}
    assert [line for line in caplog.messages if line.endswith("left random")] == list(left_random(network))
    lines = {f"{prefix}{group}: {count} tensors loaded" for group, count in loaded.items()}
    assert len(caplog.messages) == len(set(caplog.messages)) and lines <= set(caplog.messages)
    assert len(caplog.messages) == len(lines) + len(list(left_random(network)))


def left_random(network: nn.Module) -> list[str]:
    """The lines about what is new in `network`."""
    if isinstance(network, ViTClassifier):
        return ["head: 2 tensors left random"]
    counts = {name: len(list(child.parameters())) for name, child in network.decoder.named_children()}
    return [f"decoder.{name}: {count} tensors left random" for name, count in counts.items()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"patch_size": 4}, r"pre-trained with patch_size \[8, 8, 8\], the network has \[4, 4, 4\]; set patch_size"),
        ({"hidden_size": 48}, "set hidden_size"),
        ({"num_layers": 4}, "lacks encoder tensor blocks.3.norm1.weight"),
        ({"num_layers": 2}, "without a place, first blocks.2.*depth"),
        ({"mlp_dim": 48}, r"blocks.0.mlp.fc1.weight is \[96, 24\] but the network needs \[48, 24\]"),
        ({"img_size": [16, 16]}, "encoder tensor"),
    ],
)
def test_an_encoder_of_another_design_is_refused_and_nothing_is_loaded(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    network = unetr(**change)
    before = network.encoder.cls_token.clone()
    with pytest.raises(InputError, match=words) as caught:
        load_encoder(network, write(mae(), tmp_path))
    assert "mae.pt" in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(network.encoder.cls_token, before)


def test_weights_that_do_not_record_their_grid_are_refused(tmp_path: Path) -> None:
    source = mae()
    del source.encoder.grid_size
    with pytest.raises(InputError, match="lacks encoder tensor grid_size"):
        load_encoder(unetr(img_size=[24, 16, 32]), write(source, tmp_path))


def test_a_checkpoint_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"mae\.pt holds no encoder weights"):
        load_encoder(unetr(), write(nn.Linear(3, 3), tmp_path))


@pytest.mark.parametrize(
    "content", [[torch.zeros(3)], nn.Linear(2, 2), {"epoch": 1}], ids=["list", "object", "numbers"]
)
def test_what_is_not_a_checkpoint_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match=r"weights\.pt"):
        load_encoder(unetr(), tmp_path / "weights.pt")


def test_a_text_file_or_a_missing_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("not weights")
    with pytest.raises(InputError, match=r"weights\.txt is damaged, or no checkpoint"):
        load_encoder(unetr(), tmp_path / "weights.txt")
    with pytest.raises(InputError, match=r"none\.pt do not exist"):
        load_encoder(unetr(), tmp_path / "none.pt")
