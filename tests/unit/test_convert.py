"""Weights of other projects give the same outputs in our networks, and ours in theirs; no key is lost."""

from pathlib import Path

import pytest
import torch
from monai.networks.nets import MaskedAutoEncoderViT
from monai.networks.nets import ViT as MonaiViT
from torch import Tensor, nn

from custom.checkpoints import load_weights, write_checkpoint
from custom.convert import recognise, to_custom
from custom.errors import InputError
from custom.export import to_monai, to_selfmedmae
from custom.networks import MAE, UNETR, ViT, ViTClassifier
from scripts.convert import convert

FIXTURES = Path(__file__).parent.parent / "fixtures"
SMALL = {"hidden_size": 24, "num_layers": 2, "num_heads": 2}
DECODER = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
VIT_B = {"decoder_hidden_size": 384, "decoder_num_layers": 8, "decoder_num_heads": 12}


def perturbed(network: nn.Module) -> nn.Module:
    """In evaluation mode, with noise on every parameter, so that zeros and ones hide nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return network.eval()


def with_our_epsilon(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    return network


def load(network: nn.Module, weights: dict[str, Tensor], folder: Path) -> nn.Module:
    """Through a file, every tensor checked."""
    write_checkpoint({"model": weights}, folder / "converted.pt")
    return load_weights(network, folder / "converted.pt").eval()


def listed(name: str) -> dict[str, Tensor]:
    """A full-size checkpoint of the published code: its keys and shapes, without memory."""
    lines = (FIXTURES / "keys" / f"keys_{name}.txt").read_text().splitlines()
    pairs = (line.split("\t") for line in lines if line.strip())
    return {key: torch.empty([int(n) for n in shape.strip("[]").split(",")], device="meta") for key, shape in pairs}


def shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in weights.items()}


@pytest.mark.parametrize(("name", "make"), [
    ("mae3d_vitb_btcv_96_c1", lambda: MAE(1, [96] * 3, 16, **VIT_B)),
    ("mae3d_vitb_brats_128_c4", lambda: MAE(4, [128] * 3, 16, **VIT_B)),
    ("unetr3d_vitb_btcv", lambda: UNETR(1, 14, [96] * 3, 16, 16)),
    ("unetr3d_vitb_brats", lambda: UNETR(4, 3, [128] * 3, 16, 16)),
    ("vit_cls_vitb_cxr14", lambda: ViTClassifier(3, [224, 224], 16, 14)),
    ("mae2d_vitb_cxr14_released_fourier24", lambda: nn.ModuleDict({"encoder": ViT(3, [224, 224], 16)})),
])  # fmt: skip
def test_every_key_of_the_published_checkpoints_finds_its_place(name: str, make: object) -> None:
    assert shapes(to_custom(listed(name))) == shapes(make().state_dict())


def test_the_authors_unused_projections_are_left_out() -> None:
    published = listed("unetr3d_vitb_btcv")
    old = {f"decoder.encoder{n}.blocks.{b}.1.conv3.conv.weight": torch.empty(1) for n, b in ((2, 0), (2, 1), (3, 0))}
    assert to_custom(published | old).keys() == to_custom(published).keys()


def test_published_weights_give_the_published_numbers(tmp_path: Path) -> None:
    vit = torch.load(FIXTURES / "parity_vit2d.pt", weights_only=True)
    network = ViTClassifier(3, [32, 32], 8, 14, hidden_size=48, num_layers=3, num_heads=3, pos_embed="learnable")
    done = load(network, to_custom(vit["state_dict"]), tmp_path)(vit["x"])
    assert torch.allclose(done, vit["logits"], atol=1e-5)
    unetr = torch.load(FIXTURES / "parity_unetr.pt", weights_only=True)["case"]
    done = load(UNETR(1, 14, [32] * 3, 16, 4, 48, 12, 3), to_custom(unetr["state_dict"]), tmp_path)(unetr["x"])
    assert torch.allclose(done[..., ::4, ::4, ::4], unetr["logits_every_4th"], atol=1e-5)
    case = torch.load(FIXTURES / "parity_mae3d.pt", weights_only=True)["cases"]["cubic_c2_mr125"]
    sizes = {"decoder_hidden_size": 24, "decoder_num_layers": 2, "decoder_num_heads": 3}
    mae = load(MAE(2, [32] * 3, 8, 48, 2, 3, **sizes), to_custom(case["state_dict"]), tmp_path)
    keep, hidden = (case["shuffle_indices"][:, part] for part in (slice(56), slice(56, None)))
    expected = case["decoder_out_shuffled"][:, 1 + keep.shape[1] :]
    assert torch.allclose(mae.predict(case["x"], keep, hidden).values, expected, atol=1e-5)


def test_the_released_2d_encoder_is_repaired() -> None:
    """It cuts patches channel first and embeds them channel last: the true projection undoes that."""
    projection = torch.randn(5, 3, 2, 2)
    patch = torch.randn(3, 2, 2)
    seen = torch.nn.functional.conv2d(patch.reshape(2, 2, 3).permute(2, 0, 1)[None], projection)  # as the code does
    published = {key: torch.zeros(1, 5, 5) for key in ("encoder_pos_embed", "decoder_pos_embed")}
    published |= {"encoder.patch_embed.proj.weight": projection, "encoder_to_decoder.weight": torch.zeros(5, 5)}
    published |= {"decoder.head.bias": torch.zeros(96)}
    repaired = to_custom(published)["encoder.patch_embed.proj.weight"]
    assert torch.allclose(torch.nn.functional.conv2d(patch[None], repaired), seen, atol=1e-6)


@pytest.mark.parametrize("make", [
    lambda: MAE(2, [16, 16, 8], 8, **SMALL, **DECODER),
    lambda: UNETR(1, 3, [32] * 3, 16, 4, 24, 12, 2),
    lambda: ViTClassifier(1, [16, 24], 8, 3, **SMALL, pos_embed="learnable"),
])  # fmt: skip
def test_to_selfmedmae_and_back_is_the_identity(make: object) -> None:
    network = make()
    ours = perturbed(network).state_dict()
    if isinstance(network, MAE):
        ours["encoder.pos_embed"][:, 0] = 0  # as it is, being fixed
    grid = ours["encoder.grid_size" if "encoder.grid_size" in ours else "grid_size"].tolist()
    back = to_custom(to_selfmedmae(ours), grid)
    assert back.keys() == ours.keys() and all(torch.equal(back[key], value) for key, value in ours.items())


def monai_mae() -> MaskedAutoEncoderViT:
    sizes = {"mlp_dim": 96, "decoder_mlp_dim": 96, "qkv_bias": True, "spatial_dims": 3}
    return MaskedAutoEncoderViT(1, (16, 16, 16), 8, **SMALL, **DECODER, **sizes)


def same_predictions(ours: MAE, theirs: MaskedAutoEncoderViT) -> float:
    """Largest difference on the patches that MONAI masks."""
    image = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        values, masked = theirs.eval()(image)
        order = masked.argsort(dim=1, stable=True)
        keep, hidden = order[:, : int((masked[0] == 0).sum())], order[:, int((masked[0] == 0).sum()) :]
        found = ours.predict(image, keep, hidden).values
    return float((found - values.gather(1, hidden[..., None].expand(-1, -1, values.shape[2]))).abs().max())


def test_a_masked_autoencoder_goes_to_monai_and_back(tmp_path: Path) -> None:
    ours = perturbed(MAE(1, [16] * 3, 8, **SMALL, **DECODER))
    theirs = monai_mae()
    theirs.load_state_dict(to_monai(ours.state_dict()))
    assert 1e-6 < same_predictions(ours, theirs) < 5e-2  # MONAI's epsilon
    assert same_predictions(ours, with_our_epsilon(theirs)) < 1e-5
    other = perturbed(monai_mae())
    assert recognise(other.state_dict()) == "MONAI"
    converted = load(MAE(1, [16] * 3, 8, **SMALL, **DECODER), to_custom(other.state_dict()), tmp_path)
    assert same_predictions(converted, with_our_epsilon(other)) < 1e-5


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_a_classifier_goes_to_monai_and_back(qkv_bias: bool, tmp_path: Path) -> None:
    sizes = SMALL | {"mlp_dim": 96, "classification": True, "num_classes": 3, "post_activation": "", "spatial_dims": 2}
    image = torch.randn(2, 1, 16, 16)
    theirs = with_our_epsilon(perturbed(MonaiViT(1, (16, 16), 8, qkv_bias=qkv_bias, **sizes)))
    ours = ViTClassifier(1, [16, 16], 8, 3, **SMALL, pos_embed="learnable")
    ours = load(ours, to_custom(theirs.state_dict()), tmp_path)
    assert torch.allclose(ours(image), theirs(image)[0], atol=1e-5)
    if qkv_bias:
        mine = perturbed(ViTClassifier(1, [16, 16], 8, 3, **SMALL, pos_embed="learnable"))
        theirs.load_state_dict(to_monai(mine.state_dict()))
        assert torch.allclose(mine(image), theirs(image)[0], atol=1e-5)


def test_the_shipped_classifier_differs_in_monai_by_its_epsilon_alone(tmp_path: Path) -> None:
    """The numbers of README: about .003 of logits up to 5.5, and a hundredth of that once the epsilon is ours."""
    sizes = {"hidden_size": 192, "num_layers": 12, "num_heads": 3}
    shipped = Path(__file__).parents[2] / "bundles" / "vit_cxr14" / "models" / "model.pt"
    ours = load_weights(ViTClassifier(1, [224, 224], 16, 14, **sizes, pos_embed="learnable"), shipped).eval()
    more = {"mlp_dim": 768, "qkv_bias": True, "classification": True, "num_classes": 14, "post_activation": ""}
    theirs = MonaiViT(1, (224, 224), 16, **sizes, **more, spatial_dims=2).eval()
    theirs.load_state_dict(to_monai(ours.state_dict()))
    image = torch.randn(2, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = ours(image)
        assert 1e-4 < float((found - theirs(image)[0]).abs().max()) < 1e-2
        assert float((found - with_our_epsilon(theirs)(image)[0]).abs().max()) < 2e-4


def test_parallel_training_is_undone_and_a_tensor_without_a_place_refused() -> None:
    encoder = {key: value for key, value in ViT(3, [32, 32], 8, **SMALL).state_dict().items() if key != "grid_size"}
    parallel = to_custom({f"module.{key}": value for key, value in encoder.items()})
    assert parallel.keys() == encoder.keys() | {"grid_size"}
    with pytest.raises(InputError, match="fc_norm"):
        to_custom(encoder | {"fc_norm.weight": torch.ones(24)})


def test_the_command_converts_files_and_says_what_it_cannot(tmp_path: Path) -> None:
    network = ViTClassifier(1, [16, 16], 8, 3, **SMALL)
    write_checkpoint({"model": network.state_dict()}, tmp_path / "ours.pt")
    convert(str(tmp_path / "ours.pt"), str(tmp_path / "theirs.pt"), to="selfmedmae")
    convert(str(tmp_path / "theirs.pt"), str(tmp_path / "back.pt"))
    load_weights(network, tmp_path / "back.pt")
    with pytest.raises(InputError, match="use one of custom, monai, selfmedmae"):
        convert(str(tmp_path / "ours.pt"), str(tmp_path / "x.pt"), to="keras")
    with pytest.raises(InputError, match="of no known format; expected SelfMedMAE's MAE: encoder_pos_embed"):
        to_custom({"conv.weight": torch.zeros(1)})
    wide = ViTClassifier(1, [16, 24], 8, 3, **SMALL).state_dict()
    del wide["grid_size"]
    with pytest.raises(InputError, match="give the grid"):
        to_custom(wide)
    assert to_custom(wide, [2, 3])["grid_size"].tolist() == [2, 3]


def test_what_other_networks_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="no class token"):
        to_monai(UNETR(1, 3, [32] * 3, 16, 4, 24, 12, 2).state_dict())
    with pytest.raises(InputError, match="Fourier"):
        to_selfmedmae(MAE(1, [16, 16], 8, **SMALL, **DECODER).state_dict())
    encoder = ViT(1, [16, 16], 8, **SMALL).state_dict()
    for alone in (encoder, {f"encoder.{key}": value for key, value in encoder.items()}):
        with pytest.raises(InputError, match="cannot hold this encoder alone"):
            to_monai(alone)
    with pytest.raises(InputError, match="no encoder without its decoder"):
        to_selfmedmae(alone)
    for patch in (8, 32):
        with pytest.raises(InputError, match=rf"stages of patch size 16 alone.* \[{patch}, {patch}\]"):
            to_selfmedmae(UNETR(1, 3, [32] * 2, patch, 4, 24, 12, 2).state_dict())
