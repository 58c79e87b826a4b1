"""Our networks give the numbers of the published model code when they hold its weights."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from custom.convert import SELFMEDMAE_MAE, renamed, to_custom
from custom.losses import MaskedPatchLoss
from custom.networks import MAE, UNETR, ViTClassifier
from custom.networks.tokens import patchify, sincos_position, unpatchify
from custom.networks.vit import tokens_to_volume

FIXTURES = Path(__file__).parent.parent / "fixtures"
MAE_CASES = ["cubic_c1_mr75", "cubic_c2_mr125"]


def close(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> bool:
    return torch.allclose(ours, theirs, rtol=0, atol=tolerance)


@pytest.fixture(params=MAE_CASES)
def mae_case(request: pytest.FixtureRequest) -> tuple[MAE, dict]:
    case = torch.load(FIXTURES / "parity_mae3d.pt", weights_only=True)["cases"][request.param]
    channels = case["args"]["in_chans"]
    model = MAE(channels, [32] * 3, 8, 48, 2, 3, decoder_hidden_size=24, decoder_num_layers=2, decoder_num_heads=3)
    fresh_position = model.encoder.pos_embed.clone(), model.decoder.pos_embed.clone()
    model.load_state_dict(to_custom(case["state_dict"]))
    assert close(fresh_position[0], model.encoder.pos_embed, 1e-7), "sine-cosine tables differ"
    assert close(fresh_position[1], model.decoder.pos_embed, 1e-7), "sine-cosine tables differ"
    return model, case


def split(case: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """The published shuffle -> keep, hidden."""
    return case["shuffle_indices"][:, : case["sel_length"]], case["shuffle_indices"][:, case["sel_length"] :]


def test_mae_encoder_and_predictions_equal_the_published_code(mae_case: tuple[MAE, dict]) -> None:
    model, case = mae_case
    keep, hidden = split(case)
    latent = model.encode(case["x"], keep)[0]
    assert close(latent, case["encoder_out"])
    theirs = case["decoder_out_shuffled"][:, 1 + keep.shape[1] :]
    assert close(model.predict(case["x"], keep, hidden).values, theirs)


def test_mae_loss_and_gradients_equal_the_published_code(mae_case: tuple[MAE, dict]) -> None:
    model, case = mae_case
    target = {"image": case["x"], "valid": torch.ones_like(case["x"][:, :1], dtype=torch.bool)}
    loss = MaskedPatchLoss(model.patch_size)(model.predict(case["x"], *split(case)), target)
    assert abs(loss.item() - case["loss"].item()) < 1e-6
    loss.backward()
    ours = dict(model.named_parameters())
    for name, gradient in renamed(case["grads"], SELFMEDMAE_MAE).items():
        assert close(ours[name].grad, gradient), name


def test_mae_reconstruction_equals_the_published_code_on_hidden_patches(mae_case: tuple[MAE, dict]) -> None:
    model, case = mae_case
    keep, hidden = split(case)
    image, visible = model.reconstruct(case["x"], model.predict(case["x"], keep, hidden))
    theirs = unpatchify(case["recon"], model.grid, model.patch_size)
    gone = (visible == 0).expand_as(image)
    assert close(image[gone], theirs[gone], 2e-3)  # published pictures use the unbiased spread: sqrt(n / (n - 1))
    assert torch.equal(image[~gone], case["x"][~gone])
    masked = unpatchify(case["masked_patches"], model.grid, model.patch_size)
    assert torch.equal(case["x"] * visible, masked)


def test_unetr_equals_the_published_code() -> None:
    case = torch.load(FIXTURES / "parity_unetr.pt", weights_only=True)["case"]
    model = UNETR(1, 14, [32] * 3, 16, 4, 48, 12, 3, drop_path_rate=0.1).eval()
    model.load_state_dict(to_custom(case["state_dict"]))
    tokens, hidden = model.encoder(case["x"])
    assert close(tokens[:, 1:], case["encoder_out"])
    assert all(close(hidden[layer][:, 1:], case[f"hidden_{layer}"]) for layer in model.skip_layers)
    assert close(model(case["x"])[..., ::4, ::4, ::4], case["logits_every_4th"])
    assert [block.drop_path.drop_prob for block in model.encoder.blocks] == pytest.approx(case["drop_path"])
    assert model.no_weight_decay() == set(case["no_weight_decay"])


def test_vit_classifier_equals_the_published_code() -> None:
    case = torch.load(FIXTURES / "parity_vit2d.pt", weights_only=True)
    model = ViTClassifier(3, [32, 32], 8, 14, hidden_size=48, num_layers=3, num_heads=3, pos_embed="learnable").eval()
    model.load_state_dict(to_custom(case["state_dict"]))
    assert close(model(case["x"]), case["logits"])


def test_2d_position_embedding_equals_the_published_code() -> None:
    theirs = torch.load(FIXTURES / "parity_vit2d.pt", weights_only=True)["pos_sincos2d_grid4_dim48_ntok1"]
    assert close(sincos_position([4, 4], 48), theirs[:, 1:], 1e-6)


@pytest.mark.parametrize("drop", ["patchify", "volume"])
def test_grid_order_is_last_axis_fastest(drop: str) -> None:
    grid = torch.arange(2 * 3 * 4.0).reshape(1, 1, 2, 3, 4)
    tokens = grid.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    flat = patchify(tokens, [2, 2, 2])[..., :1]
    assert torch.equal(flat.flatten(), torch.arange(24.0))
    if drop == "volume":
        padded = functional.pad(flat, (0, 0, 1, 0))
        assert torch.equal(tokens_to_volume(padded, [2, 3, 4]), grid)
