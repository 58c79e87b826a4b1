"""The linear probe, and where a classifier looked."""

from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from sklearn.linear_model import LogisticRegression

from custom.errors import InputError
from custom.networks import ViT, ViTClassifier
from custom.probe import LinearProbe, fit_head, fit_linear
from custom.relevance import relevance

SMALL = {"hidden_size": 16, "num_layers": 3, "num_heads": 2}


def batches(count: int = 60, seed: int = 0) -> list[dict]:
    """Images whose brightness tells the first finding; the second is never present."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.stack([torch.arange(count) % 2, torch.zeros(count)], dim=1)
    image = torch.rand(count, 1, 16, 16, generator=generator) + label[:, 0].reshape(-1, 1, 1, 1)
    return [{"image": image[part], "label": label[part]} for part in (slice(0, count // 2), slice(count // 2, None))]


def test_the_fit_is_that_of_scikit_learn() -> None:
    torch.manual_seed(0)
    features = torch.randn(200, 5) * torch.tensor([1, 10, 0.1, 1, 1]) + 3
    labels = (features[:, :1] + torch.randn(200, 1) > 3).float()
    weight, bias = fit_linear(features, labels, penalty=0.02)
    scaled = (features - features.mean(0)) / features.std(0)
    expected = LogisticRegression(C=1 / (0.02 * 200), tol=1e-8).fit(scaled, labels[:, 0])
    found = features @ weight.T + bias
    assert torch.allclose(found[:, 0], torch.from_numpy(expected.decision_function(scaled)).float(), atol=1e-2)


def test_a_fitted_head_finds_what_frozen_features_show() -> None:
    torch.manual_seed(0)
    network = ViTClassifier(1, [16, 16], 4, 2, **SMALL)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fit_head(network, batches(), torch.device("cpu"))
    first = batches(seed=1)[0]
    found = network.eval()(first["image"])
    assert ((found[:, 0] > 0) == (first["label"][:, 0] > 0)).float().mean() > 0.9
    assert (found[:, 1].sigmoid() < 0.1).all()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items() if "head" not in key)


def test_the_handler_measures_before_during_and_at_the_end(tmp_path: Path) -> None:
    encoder = ViT(1, [16, 16], 4, **SMALL)
    engine = Engine(lambda *_: None)
    LinearProbe(encoder, batches(), batches(seed=1), tmp_path / "probe.csv", ["A", "B"], interval=2).attach(engine)
    engine.run([0], max_epochs=5)
    rows = [line.split(",") for line in (tmp_path / "probe.csv").read_text().splitlines()]
    assert rows[0] == ["epoch", "mean", "A", "B"] and [row[0] for row in rows[1:]] == ["0", "2", "4", "5"]
    assert all(row[3] == "" for row in rows[1:])  # never present in validation
    assert engine.state.metrics["probe_auc"] == pytest.approx(float(rows[-1][1]), abs=1e-4)
    with pytest.raises(InputError, match="needs labels"):
        fit_head(ViTClassifier(1, [16, 16], 4, 2, **SMALL), [{"image": torch.rand(2, 1, 16, 16)}], torch.device("cpu"))


def test_relevance_finds_the_patch_that_decides() -> None:
    """A network trained to tell whether one of four corners is bright looks at that corner."""
    torch.manual_seed(0)
    network = ViTClassifier(1, [16, 16], 8, 1, **SMALL)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(60):
        image = torch.rand(32, 1, 16, 16)
        bright = torch.rand(32, 1) < 0.5
        image[:, 0, 8:, :8] += bright[..., None].float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(image), bright.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    image = torch.rand(1, 1, 16, 16)
    image[:, 0, 8:, :8] += 1
    with torch.no_grad():
        seen = relevance(network.eval(), image, 0)
    assert seen.shape == (16, 16) and seen.min() >= 0 and seen.max() <= 1
    assert seen[12:, :4].mean() == max(
        part.mean() for part in (seen[:4, :4], seen[:4, 12:], seen[12:, :4], seen[12:, 12:])
    )
