"""Controls: shuffled blocks, a network without a transformer, fair heads, pixels without a network."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from custom.data import CropDataset
from custom.errors import InputError
from custom.networks import UNETR, ViTClassifier
from custom.study.controls import ShuffleBlocksd, without_blocks
from custom.study.flops import training_flops
from custom.study.heads import fair_start, log_odds
from custom.study.pixels import fit_forest, fit_thumbnails, outputs_of_codes


@pytest.mark.parametrize(("shape", "block"), [((1, 8, 12), [4, 4]), ((2, 8, 4, 12), [4, 2, 6])])
def test_blocks_move_as_a_whole_and_none_is_lost(shape: tuple[int, ...], block: list[int]) -> None:
    image = torch.arange(np.prod(shape)).reshape(shape)
    shuffle = ShuffleBlocksd("image", block)
    shuffle.set_random_state(0)
    moved = shuffle({"image": image})["image"]
    assert not moved.equal(image) and moved.flatten().sort()[0].equal(image.flatten())
    windows = moved[(slice(None), *(slice(0, size) for size in block))]
    starts = [np.argwhere((image == windows.flatten()[0]).numpy())[0][1:]]
    assert all(start % size == 0 for start, size in zip(starts[0], block, strict=True))


def test_image_and_padding_move_together() -> None:
    image = torch.rand(1, 8, 8)
    moved = ShuffleBlocksd(["image", "valid"], [4, 4])({"image": image, "valid": image > 0.5})
    assert moved["valid"].equal(moved["image"] > 0.5)


def test_blocks_have_to_divide_the_image() -> None:
    with pytest.raises(InputError, match="not a multiple"):
        ShuffleBlocksd("image", [3, 3])({"image": torch.zeros(1, 8, 8)})


def test_a_network_without_blocks_only_embeds() -> None:
    network = without_blocks(UNETR(1, 2, [16] * 3, 8, feature_size=4, hidden_size=24, num_layers=3, num_heads=2))
    image = torch.rand(1, 1, 16, 16, 16)
    hidden = network.encoder(image)[1]
    assert hidden[0].equal(hidden[-1]) and network(image).shape == (1, 2, 16, 16, 16)


def test_a_classifier_starts_at_the_prevalence() -> None:
    network = fair_start(ViTClassifier(1, [32, 32], 8, 3, hidden_size=24, num_layers=2, num_heads=2), Findings())
    torch.nn.init.zeros_(network.head[1].weight)
    expected = log_odds(torch.tensor([1.0, 2.0, 0.0]), 4)
    assert network(torch.rand(4, 1, 32, 32)).allclose(expected.expand(4, 3))


class Findings:
    """As much of an ImageDataset as is needed."""

    data = ({"label": [1, 1, 0]}, {"label": [0, 1, 0]}, {"label": [0, 0, 0]}, {"label": [0, 0, 0]})


class Cache:
    """As much of a VolumeCache as is needed."""

    def open(self, item: Any) -> Any:
        return item


class Volume(NamedTuple):
    """A case."""

    image: np.ndarray
    label: np.ndarray


def dataset_of(volumes: list[tuple[np.ndarray, np.ndarray]]) -> CropDataset:
    dataset = CropDataset.__new__(CropDataset)
    dataset.data, dataset.cache = [Volume(*pair) for pair in volumes], Cache()
    return dataset


def test_unetr_starts_at_the_share_of_each_class() -> None:
    label = np.zeros((1, 8, 8, 8), np.uint8)
    label[0, :2] = 1
    network = UNETR(1, 3, [16] * 3, 8, feature_size=4, hidden_size=24, num_layers=3, num_heads=2)
    fair_start(network, dataset_of([(label.astype(np.float32), label)]))
    share = network.decoder.out.conv.conv.bias.softmax(dim=0)
    assert share.tolist() == pytest.approx([0.75, 0.25, 0.001], abs=2e-3)


def test_regions_that_overlap_start_at_their_own_shares() -> None:
    label = np.zeros((2, 8, 8, 8), np.uint8)
    label[0, :4], label[1, :2] = 1, 1
    network = UNETR(1, 2, [16] * 3, 8, feature_size=4, hidden_size=24, num_layers=3, num_heads=2)
    fair_start(network, dataset_of([(label[:1].astype(np.float32), label)]))
    assert network.decoder.out.conv.conv.bias.sigmoid().tolist() == pytest.approx([0.5, 0.25], abs=2e-3)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_forest_learns_what_intensity_tells(channels: int) -> None:
    rng, volumes = np.random.default_rng(0), []
    for _ in range(3):
        region = np.zeros((12, 12, 12), bool)
        corner = rng.integers(0, 6, 3)
        region[tuple(slice(c, c + 6) for c in corner)] = True
        image = (region + 0.1 * rng.standard_normal(region.shape)).astype(np.float32)[None]
        label = np.stack([region, region & (np.arange(12) % 2 == 0)][:channels]).astype(np.uint8)
        volumes.append((image, label))
    network = fit_forest(dataset_of(volumes[:2]), 2)
    found = network(torch.from_numpy(volumes[2][0])[None])[0] > 0
    truth = torch.from_numpy(volumes[2][1]).bool()
    expected = torch.cat([~truth, truth]) if channels == 1 else truth
    assert found.shape == (2, 12, 12, 12)
    assert (found[1 if channels == 1 else 0] == expected[1 if channels == 1 else 0]).float().mean() > 0.95


def test_more_classes_than_bits_of_a_number_have_an_output_each() -> None:
    assert outputs_of_codes(1, 118).tolist() == np.eye(118, dtype=bool).tolist()
    assert outputs_of_codes(2, 2).tolist() == [[False, False], [True, False], [False, True], [True, True]]


def test_thumbnails_learn_what_brightness_tells() -> None:
    torch.manual_seed(0)
    label = (torch.arange(64) % 2).float()[:, None]
    images = torch.rand(64, 1, 32, 32) * 0.3
    images[:, :, :16] += label[:, :, None, None] * 0.2
    network = fit_thumbnails([{"image": images[:32], "label": label[:32]}])
    assert ((network(images[32:]) > 0).float() == label[32:]).float().mean() > 0.95


def test_flops_of_a_linear_map_are_known() -> None:
    small, large = (
        training_flops(ViTClassifier(1, [16, 16], 8, 2, hidden_size=24, num_layers=layers, num_heads=2))
        for layers in (1, 3)
    )
    tokens, width = 5, 24
    forward = 2 * tokens * 12 * width**2 + 2 * 2 * tokens**2 * width  # four linear layers, two attention products
    assert (large - small) / 2 == pytest.approx(3 * forward, rel=0.02)
