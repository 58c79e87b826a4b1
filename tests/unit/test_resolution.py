"""A classifier works at another resolution than it was trained at: its position embedding is interpolated."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from custom.auc import roc_auc
from custom.checkpoints import load_weights
from custom.errors import InputError
from custom.networks import ViTClassifier

SIZES = {"patch_size": 8, "num_classes": 1, "hidden_size": 32, "num_layers": 3, "num_heads": 2}
SMALL = SIZES | {"pos_embed": "learnable"}


def blobs(count: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy images of one blob, which is in the upper half in those of label 1: (N, 1, size, size), (N, 1)."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator)
    axis = (torch.arange(size) + 0.5) / size
    squared = (axis[:, None] - centre[:, :1, None]) ** 2 + (axis[None, :] - centre[:, 1:, None]) ** 2
    noise = torch.randn(count, 1, 8, 8, generator=generator)
    noise = functional.interpolate(noise, size=(size, size), mode="bilinear")
    return torch.exp(-squared / 0.02)[:, None] + 0.3 * noise, (centre[:, :1] < 0.5).float()


def area(network: ViTClassifier, size: int) -> float:
    image, label = blobs(400, size, seed=1)
    with torch.no_grad():
        return float(roc_auc(label[:, 0].numpy(), network.eval()(image)[:, 0].numpy())[0])


def test_accuracy_is_kept_at_another_resolution(tmp_path: Path) -> None:
    """As from 224 to 384: a grid 1.6 times as fine, of a task that only positions can solve."""
    torch.manual_seed(0)
    network = ViTClassifier(1, [40, 40], **SMALL)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(250):
        image, label = blobs(64, 40, seed=100 + step)
        loss = functional.binary_cross_entropy_with_logits(network(image), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    trained = area(network, 40)
    assert trained > 0.97
    torch.save({"model": network.state_dict()}, tmp_path / "model.pt")
    finer = load_weights(ViTClassifier(1, [64, 64], **SMALL), tmp_path / "model.pt", any_img_size=True)
    assert area(finer, 64) == pytest.approx(trained, abs=0.03)
    with pytest.raises(InputError, match="another architecture"):
        load_weights(ViTClassifier(1, [64, 64], **SMALL), tmp_path / "model.pt")
