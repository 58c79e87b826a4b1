"""The linear segmenter and its fit on frozen tokens."""

import copy
from itertools import product

import pytest
import torch
from monai.losses import DiceCELoss

from custom.study.heads import fair_start
from custom.study.light import LinearSegmenter, fit_probe

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


class Rare(Crops):
    """One voxel in 128 belongs to the second class: a corner of each bright block."""

    def __getitem__(self, index: int) -> list[dict[str, torch.Tensor]]:
        samples = super().__getitem__(index)
        corner = torch.zeros(1, 16, 16, 16, dtype=torch.uint8)
        for start in product((0, 8), repeat=3):
            corner[:, *(slice(at, at + 2) for at in start)] = 1
        return [sample | {"label": sample["label"] * corner} for sample in samples]


@pytest.mark.parametrize("crops", [Crops(), Rare()], ids=["half", "rare"])
@pytest.mark.parametrize("channels", [1, 2], ids=["region", "classes"])
def test_a_probe_finds_what_tokens_tell_however_rare(channels: int, crops: Crops) -> None:
    torch.manual_seed(0)
    loss = DiceCELoss(sigmoid=True) if channels == 1 else DiceCELoss(softmax=True, to_onehot_y=True)
    before = LinearSegmenter(1, channels, **OPTIONS)
    share = torch.stack([sample["label"].float() for sample in crops[0]]).mean()
    before.head.bias.data[-512:] = share.logit() if channels == 1 else share.log()
    network = fit_probe(copy.deepcopy(before), crops, loss)
    samples = [sample for index in range(1000, 1008) for sample in crops[index]]
    logits = network(torch.stack([sample["image"] for sample in samples]))
    found = logits[:, 0] > 0 if channels == 1 else logits.argmax(dim=1) == 1
    truth = torch.stack([sample["label"][0] for sample in samples]).bool()
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    frozen = zip(before.encoder.parameters(), network.encoder.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in frozen)


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
