"""The linear segmenter and its closed-form fit."""

import pytest
import torch

from custom.study.heads import fair_start
from custom.study.light import LinearSegmenter, Sums, fit_probe

OPTIONS = {"img_size": [16, 16, 16], "patch_size": 8, "hidden_size": 24, "num_layers": 6, "num_heads": 2}


class Crops:
    """As much of a CropDataset as is needed: crops whose label is where the image is bright."""

    num_samples = 2

    def __getitem__(self, index: int) -> list[dict[str, torch.Tensor]]:
        generator = torch.Generator().manual_seed(index)
        bright = [torch.rand(1, 2, 2, 2, generator=generator) > 0.5 for _ in range(self.num_samples)]
        blocks = [where.repeat_interleave(8, 1).repeat_interleave(8, 2).repeat_interleave(8, 3) for where in bright]
        noise = [torch.rand(1, 16, 16, 16, generator=generator) for _ in blocks]
        return [{"image": b + 0.3 * n, "label": b.to(torch.uint8)} for b, n in zip(blocks, noise, strict=True)]


def test_sums_give_the_ridge_regression_of_all_tokens_at_once() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(50, 6) * 3 + 1, torch.randn(50, 4)
    sums = Sums(6, 4, torch.device("cpu"))
    for start in range(0, 50, 7):
        sums.add(x[start : start + 7], y[start : start + 7])
    mean, spread, weight, offset = sums.solve(0.1, 1e-5)
    scaled = ((x.double() - mean) / spread).float()
    gradient = scaled.T @ (scaled @ weight.float() + offset.float() - y) / 50 + 0.1 * weight.float()
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize("channels", [1, 2])
def test_a_probe_finds_what_tokens_tell(channels: int) -> None:
    torch.manual_seed(0)
    network = fit_probe(LinearSegmenter(1, channels, **OPTIONS), Crops(), crops=64)
    sample = Crops()[1000][0]
    found = network(sample["image"][None])[0, channels - 1] > 0
    assert (found == sample["label"][0].bool()).float().mean() > 0.95


def test_four_blocks_are_read_the_last_among_them() -> None:
    assert LinearSegmenter(1, 2, **OPTIONS).blocks == [0, 2, 3, 5]
    assert LinearSegmenter(1, 2, **{**OPTIONS, "num_layers": 12}).blocks == [2, 5, 8, 11]


def test_it_trains() -> None:
    torch.manual_seed(0)
    network = fair_start(LinearSegmenter(1, 2, **OPTIONS))
    optimiser, losses = torch.optim.AdamW(network.parameters(), 3e-3), []
    for index in range(20):
        samples = Crops()[index]
        image, label = (torch.stack([sample[key] for sample in samples]) for key in ("image", "label"))
        losses.append(torch.nn.functional.cross_entropy(network(image), label[:, 0].long()))
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < losses[0] / 2
