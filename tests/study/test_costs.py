"""How much each arm gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.study.cases import CaseLists
from custom.study.costs import Costs
from custom.study.flops import training_flops
from custom.study.light import LinearSegmenter
from custom.study.settings import read_settings
from scripts.tiny import NETWORK, ROOT, SPACING, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data("nih", tmp_path_factory.mktemp("nih"))


@pytest.mark.parametrize(("steps", "pretraining_steps"), [(3, 10), (40, 200), (7, 1)])
def test_the_long_arm_gets_at_least_the_compute_of_pretraining(data: Path, steps: int, pretraining_steps: int) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        pretraining={"batch_size": 8}, fine_tuning={"batch_size": 5, "validation_fraction": 0.3},
        steps=steps, pretraining_steps=pretraining_steps,
    )  # fmt: skip
    costs = Costs(settings, CaseLists(data, settings))
    flops = {arm: costs.total(arm, 0, 0)["flops"] for arm in ("scratch", "self", "scratch_long")}
    more = costs.val_interval(costs.epochs("scratch_long", 0, 0))  # epochs, so that the last is validated
    epochs = costs.work("fine_tuning", more, 0, 0)
    assert flops["scratch"] < flops["self"] <= flops["scratch_long"] < flops["self"] + epochs


@pytest.mark.parametrize("validations", [1, 3, 5, 10])
def test_however_epochs_are_rounded_the_long_arm_has_the_compute_of_pretraining(data: Path, validations: int) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        fine_tuning={"batch_size": 3}, validations=validations,
    )  # fmt: skip
    lists = CaseLists(data, settings)
    lists.count = lambda cases, seed: 7  # type: ignore[method-assign]
    costs = Costs(settings, lists)
    for steps in (1, 35, 41, 75, 303):
        for pretraining_steps in (1, 9, 23, 101, 1000):
            costs.settings = replace(settings, steps=steps, pretraining_steps=pretraining_steps)
            flops = {arm: costs.total(arm, 0, 0)["flops"] for arm in ("self", "scratch_long")}
            assert flops["scratch_long"] >= flops["self"]


@pytest.mark.parametrize("validations", [1, 3, 10])
@pytest.mark.parametrize("steps", [1, 7, 40, 101])
def test_the_last_epoch_is_validated(data: Path, steps: int, validations: int) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        steps=steps, validations=validations,
    )  # fmt: skip
    costs = Costs(settings, CaseLists(data, settings))
    for arm in ("scratch", "scratch_long"):
        epochs = costs.epochs(arm, 0, 0)
        assert epochs % costs.val_interval(epochs) == 0 and epochs // costs.val_interval(epochs) <= validations


@pytest.mark.parametrize(("drop_last", "images", "iterations"), [(False, 7, 3), (True, 6, 2)])
def test_a_smaller_last_batch_counts_as_what_it_is(data: Path, drop_last: bool, images: int, iterations: int) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        fine_tuning={"batch_size": 3, "drop_last": drop_last},
    )  # fmt: skip
    lists = CaseLists(data, settings)
    lists.count = lambda cases, seed: 7  # type: ignore[method-assign]
    costs = Costs(settings, lists)
    assert costs.iterations("fine_tuning", 0, 0) == iterations
    assert costs.work("fine_tuning", 2, 0, 0) == 2 * images * costs.image_flops("fine_tuning")


def test_a_batch_that_is_never_full_is_refused_where_such_are_dropped(data: Path) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        fine_tuning={"batch_size": 1000, "drop_last": True},
    )  # fmt: skip
    with pytest.raises(InputError, match="drops its only batch"):
        Costs(settings, CaseLists(data, settings)).epochs("scratch", 0, 0)


def test_blocks_that_do_nothing_cost_nothing(data: Path) -> None:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        arms="scratch,identity", fine_tuning={"validation_fraction": 0.3},
    )  # fmt: skip
    costs = Costs(settings, CaseLists(data, settings))
    scratch, identity = (costs.total(arm, 0, 0) for arm in ("scratch", "identity"))
    assert identity["flops"] < scratch["flops"] / 2 and identity["steps"] == scratch["steps"]


def test_a_range_of_masking_ratios_costs_its_middle_always(data: Path) -> None:
    def price(ratio: object) -> float:
        settings = read_settings(
            bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
            pretraining={"masking_ratio": ratio},
        )  # fmt: skip
        return Costs(settings, CaseLists(data, settings)).image_flops("pretraining")

    assert price([0.5, 1 - 1e-6 - 0.25]) == pytest.approx(price(0.625)) and price([0.25, 0.5]) == price([0.25, 0.5])


def test_a_light_decoder_is_counted_as_what_it_is(tmp_path: Path) -> None:
    shared = NETWORK | SPACING | {"split": "0/3"}
    given = {"bundle": str(ROOT / "bundles" / "unetr_btcv"), "dataset_dir": str(write_data("btcv", tmp_path))}
    unetr, light = (
        Costs(settings, CaseLists(tmp_path, settings))
        for settings in (read_settings(**given, shared=shared, decoder=decoder) for decoder in ("unetr", "light"))
    )
    network = light.parser("fine_tuning").get_parsed_content("network_def")
    assert isinstance(network, LinearSegmenter)
    crops = light.image_flops("fine_tuning") / training_flops(network)
    assert crops == int(crops) >= 1 and light.image_flops("fine_tuning") < unetr.image_flops("fine_tuning") / 2
    assert light.epochs("scratch_long", 0, 0) > unetr.epochs("scratch_long", 0, 0)
