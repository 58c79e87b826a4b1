"""The masked autoencoder: what it may see, what it predicts, and that every number type and grid works."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch

from custom.errors import InputError
from custom.losses import MaskedPatchLoss
from custom.networks import MAE, MaskedPretraining
from custom.networks.tokens import gather_tokens, patchify, unpatchify

DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()
SHAPES = [
    ([16, 16], 8, 1), ([16, 24], [8, 4], 3), ([16, 16, 16], 8, 1), ([16, 8, 24], [8, 4, 6], 2), ([8, 8, 24], 4, 4),
]  # fmt: skip


def tiny(img_size: list[int] | None = None, patch_size: int | list[int] = 8, channels: int = 1, **more: Any) -> MAE:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_layers": 2, "num_heads": 2}
    decoder = {f"decoder_{key}": value for key, value in sizes.items()}
    return MAE(channels, img_size or [16, 16, 16], patch_size, **sizes | decoder | more)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def loss_of(mae: MAE, image: torch.Tensor) -> torch.Tensor:
    """One training step's loss."""
    prediction = mae.predict(image, *mae.mask(image, generator()))
    valid = torch.ones_like(image[:, :1], dtype=torch.bool)
    return MaskedPatchLoss(mae.patch_size, mae.norm_pix_loss)(prediction, {"image": image, "valid": valid})


@pytest.mark.parametrize(("size", "patch", "channels"), SHAPES)
def test_any_grid_patch_and_channel_count_is_reconstructed(
    size: list[int], patch: int | list[int], channels: int
) -> None:
    mae = tiny(size, patch, channels)
    image = torch.rand(2, channels, *size)
    assert mae(image).shape == image.shape
    loss_of(mae, image).backward()


@pytest.mark.parametrize(("size", "patch", "channels"), SHAPES)
def test_only_hidden_patches_are_predicted_and_only_visible_ones_encoded(
    size: list[int], patch: int | list[int], channels: int
) -> None:
    mae = tiny(size, patch, channels, masking_ratio=0.5)
    image = torch.rand(2, channels, *size)
    keep, hidden = mae.mask(image)
    tokens, outputs = mae.encode(image, keep)
    prediction = mae.predict(image, keep, hidden)
    assert tokens.shape == (2, 1 + prod(mae.grid) // 2, 24) and len(outputs) == 2
    assert prediction.values.shape == (2, prod(mae.grid) // 2, prod(mae.patch_size) * channels)
    assert prediction.hidden is hidden


def test_hidden_voxels_never_reach_the_predictions_and_every_visible_patch_does() -> None:
    mae = tiny().eval()
    image = torch.rand(1, 1, 16, 16, 16)
    keep, hidden = mae.mask(image, generator())
    before = mae.predict(image, keep, hidden).values
    for index in range(8):
        patches = patchify(image, mae.patch_size)
        patches[:, index] += 1.0 + torch.rand(512)
        changed = mae.predict(unpatchify(patches, mae.grid, mae.patch_size), keep, hidden).values
        assert torch.equal(changed, before) == (index in hidden[0])


def test_predictions_depend_on_where_the_visible_patches_are_but_not_on_their_order() -> None:
    mae = tiny().eval()
    image = torch.rand(1, 1, 16, 16, 16)
    keep, hidden = torch.tensor([[0, 3, 6]]), torch.tensor([[1, 2, 4, 5, 7]])
    values = mae.predict(image, keep, hidden).values
    assert torch.allclose(mae.predict(image, keep.flip(1), hidden).values, values, atol=1e-5)
    assert torch.allclose(mae.predict(image, keep, hidden.flip(1)).values.flip(1), values, atol=1e-5)
    patches = patchify(image, mae.patch_size)
    patches[:, [0, 3]] = patches[:, [3, 0]]
    swapped = mae.predict(unpatchify(patches, mae.grid, mae.patch_size), keep, hidden).values
    assert not torch.allclose(swapped, values, atol=1e-4)


def test_encoder_and_decoder_each_know_where_a_patch_is() -> None:
    mae = tiny().eval()
    image = torch.ones(1, 1, 16, 16, 16)  # patches differ by nothing but their place
    keep, hidden = torch.tensor([[0, 3, 6]]), torch.tensor([[1, 2, 4, 5, 7]])
    for tokens in (mae.encode(image, keep)[0][0, 1:], mae.predict(image, keep, hidden).values[0]):
        apart = torch.cdist(tokens, tokens) + torch.eye(len(tokens))
        assert apart.min() > 1e-2


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_reconstruction_keeps_visible_patches_bit_for_bit(norm_pix_loss: bool) -> None:
    mae = tiny([16, 24], [8, 4], 2, norm_pix_loss=norm_pix_loss).eval()
    image = torch.rand(3, 2, 16, 24)
    prediction = mae.predict(image, *mae.mask(image, generator()))
    done, visible = mae.reconstruct(image, prediction)
    assert visible.shape == (3, 1, 16, 24) and set(visible.unique().tolist()) == {0.0, 1.0}
    shown = visible.expand_as(image) == 1
    assert torch.equal(done[shown], image[shown]) and not torch.isclose(done, image)[~shown].all()
    gone = gather_tokens(patchify(visible.expand_as(image), mae.patch_size), prediction.hidden)
    assert gone.max() == 0 and visible.mean().item() == pytest.approx(0.25)


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_a_perfect_prediction_reconstructs_the_image(norm_pix_loss: bool) -> None:
    mae = tiny(channels=2, norm_pix_loss=norm_pix_loss)
    image = torch.rand(2, 2, 16, 16, 16)
    keep, hidden = mae.mask(image, generator())
    truth = MaskedPatchLoss(mae.patch_size, norm_pix_loss).target(image)
    prediction = mae.predict(image, keep, hidden)._replace(values=gather_tokens(truth, hidden))
    assert torch.allclose(mae.reconstruct(image, prediction).image, image, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"use_checkpoint": True}, {"attention": "explicit"}, {"norm_pix_loss": False}])
def test_every_trainable_parameter_receives_a_gradient(more: dict[str, Any]) -> None:
    mae = tiny(**more)
    loss_of(mae, torch.rand(2, 1, 16, 16, 16)).backward()
    trainable = {name: p for name, p in mae.named_parameters() if p.requires_grad}
    assert [name for name, p in trainable.items() if p.grad is None or p.grad.abs().max() == 0] == []
    fixed = {name for name, p in mae.named_parameters() if not p.requires_grad}
    assert fixed == {"encoder.pos_embed", "decoder.pos_embed"}


def test_gradient_checkpointing_and_attention_backend_change_no_gradient() -> None:
    image = torch.rand(2, 1, 16, 16, 16)
    gradients = []
    for more in ({}, {"use_checkpoint": True}, {"attention": "explicit"}):
        mae = tiny(**more)
        loss_of(mae, image).backward()
        gradients.append([p.grad for p in mae.parameters() if p.requires_grad])
    for other in gradients[1:]:
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(gradients[0], other, strict=True))


@pytest.mark.parametrize("attention", ["sdpa", "explicit"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("device", DEVICES)
def test_autocast_trains_with_finite_numbers_close_to_single_precision(
    device: str, dtype: torch.dtype, attention: str
) -> None:
    mae = tiny(attention=attention).to(device)
    image = torch.rand(2, 1, 16, 16, 16).to(device)
    with torch.autocast(device, dtype=dtype):
        values = mae.predict(image, *mae.mask(image, generator())).values
        loss = loss_of(mae, image)
    assert values.dtype == dtype and loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loss_of(mae, image).item(), rel=0.02)
    loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in mae.parameters() if p.requires_grad)
    with torch.autocast(device, dtype=dtype):
        assert mae(image).dtype == torch.float32 and mae(image).isfinite().all()


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_draws_the_same_mask_from_a_generator(device: str) -> None:
    mae, image = tiny(foreground_masking=True), torch.rand(2, 1, 16, 16, 16)
    keep, hidden = mae.to(device).mask(image.to(device), generator(3))
    assert keep.device.type == device
    expected = tiny(foreground_masking=True).mask(image, generator(3))
    assert torch.equal(keep.cpu(), expected[0]) and torch.equal(hidden.cpu(), expected[1])


def test_foreground_masking_hides_tissue_first() -> None:
    image = torch.zeros(500, 1, 16, 16, 16)
    image[:, :, :8] = 0.5
    hidden = tiny(foreground_masking=True, masking_ratio=0.25).mask(image, generator())[1]
    assert (hidden < 4).float().mean() > 0.9
    assert 0.4 < (tiny(masking_ratio=0.25).mask(image, generator())[1] < 4).float().mean() < 0.6


def test_a_range_of_ratios_draws_one_for_each_batch_within_it() -> None:
    mae = tiny([32, 32, 32], 4, masking_ratio=[0.5, 0.9])
    image = torch.zeros(2, 1, 32, 32, 32)
    shares = [mae.mask(image, generator(seed))[1].shape[1] / 512 for seed in range(40)]
    assert 0.5 <= min(shares) < 0.6 and 0.8 < max(shares) <= 0.9


@pytest.mark.parametrize("ratio", [0, 1, [0.5, 1.0]])
def test_a_masking_ratio_outside_0_and_1_is_refused(ratio: float | list[float]) -> None:
    with pytest.raises(InputError, match="masking_ratio"):
        tiny(masking_ratio=ratio)


def test_the_decoder_starts_as_published() -> None:
    mae = tiny(hidden_size=96, decoder_hidden_size=192, num_layers=1, decoder_num_layers=1)
    embed, head = mae.decoder.embed, mae.decoder.head
    bound = (6 / (96 + 192)) ** 0.5
    assert 0.99 * bound < embed.weight.abs().max() <= bound
    assert 0.05 < embed.bias.abs().max() <= 96**-0.5, "torch's default, not zero"
    assert head.bias.abs().max() == 0 and head.weight.abs().max() <= (6 / (192 + 512)) ** 0.5
    assert mae.decoder.mask_token.std().item() == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(("size", "channels", "count"), [(96, 1, 104_272_384), (128, 4, 118_440_448)])
def test_the_papers_network_has_the_published_number_of_parameters(size: int, channels: int, count: int) -> None:
    mae = MAE(channels, [size] * 3, 16)
    assert sum(p.numel() for p in mae.parameters() if p.requires_grad) == count
    fixed = sum(p.numel() for p in mae.parameters() if not p.requires_grad)
    assert fixed == (size // 16) ** 3 * (768 + 384) + 768  # the zero position of the class token is ours


@pytest.mark.parametrize("foreground", [True, False])
def test_a_scripted_network_keeps_visible_patches_and_fills_the_rest(foreground: bool) -> None:
    mae = tiny([16, 8, 24], [8, 4, 6], 2, foreground_masking=foreground, masking_ratio=[0.5, 0.8]).eval()
    image = torch.rand(2, 2, 16, 8, 24)
    done = torch.jit.script(mae)(image)
    assert done.shape == image.shape and done.isfinite().all()
    same = (patchify(done, mae.patch_size) == patchify(image, mae.patch_size)).all(dim=2)
    share = same.float().mean(dim=1)
    assert share.min() >= 0.2 and share.max() <= 0.5


def hidden_sequence(network: MaskedPretraining, steps: int) -> list[list[list[int]]]:
    image = torch.zeros(2, 1, 16, 16, 16)
    return [network(image).hidden.tolist() for _ in range(steps)]


def test_the_mask_of_a_step_depends_on_seed_and_step_alone() -> None:
    torch.manual_seed(1)
    first = hidden_sequence(MaskedPretraining(tiny(), seed=4), 6)
    torch.manual_seed(2)
    again = hidden_sequence(MaskedPretraining(tiny(), seed=4), 6)
    assert first == again and len({str(step) for step in first}) > 4
    assert first != hidden_sequence(MaskedPretraining(tiny(), seed=5), 6)


def test_a_saved_state_continues_the_sequence_of_masks() -> None:
    unbroken = hidden_sequence(MaskedPretraining(tiny(), seed=4), 6)
    first = MaskedPretraining(tiny(), seed=4)
    hidden_sequence(first, 2)
    second = MaskedPretraining(tiny(), seed=4)
    second.load_state_dict(first.state_dict())
    assert hidden_sequence(second, 4) == unbroken[2:]


def test_a_crop_of_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(InputError, match=r"crop \(16, 16, 8\) is not the img_size \(16, 16, 16\)"):
        MaskedPretraining(tiny())(torch.zeros(1, 1, 16, 16, 8))
