"""The runs of a comparison, before any of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from custom.study.compare import all_runs, score, scoring
from custom.study.execute import Executor
from custom.study.plan import Plan
from custom.study.recipe import read_parser
from custom.study.results import read_looks
from custom.study.run import Run
from custom.study.settings import read_settings
from scripts.tiny import NETWORK, ROOT, write_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data("nih", tmp_path_factory.mktemp("nih"))


def plan_of(data: Path, folder: Path, section: str = "test") -> Plan:
    settings = read_settings(
        bundle=str(ROOT / "bundles" / "vit_cxr14"), dataset_dir=str(data), shared=NETWORK | {"img_size": 32},
        seeds=2, learning_rates=(1e-3, 3e-3), section=section,
    )  # fmt: skip
    return Plan(settings, folder)


@pytest.mark.parametrize("section", ["validation", "test"])
def test_a_run_is_counted_once(data: Path, tmp_path: Path, section: str) -> None:
    names = [run.name for run in all_runs(plan_of(data, tmp_path, section))]
    assert len(names) == len(set(names)) > 0


def test_a_plan_writes_nothing(data: Path, tmp_path: Path) -> None:
    all_runs(plan_of(data, tmp_path))
    assert not list(tmp_path.iterdir())


class Interrupted(Executor):
    """An executor that somebody ends in the middle."""

    def execute(self, stage: str, runs: Sequence[Run], may_fail: Sequence[Run] = ()) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize(("section", "looks"), [("validation", 0), ("test", 1)])
def test_who_interrupts_the_scoring_of_test_cases_has_looked(
    data: Path, tmp_path: Path, section: str, looks: int
) -> None:
    plan, executor = plan_of(data, tmp_path, section), Interrupted(tmp_path, 1, 0.0, print)
    choices = {setup.key: plan.choices()[0] for setup in plan.setups()}
    for run in scoring(plan, choices):
        for name in run.needs:
            executor.done_file(name).parent.mkdir(parents=True, exist_ok=True)
            executor.done_file(name).touch()
    with pytest.raises(KeyboardInterrupt):
        score(plan, executor, choices)
    assert len(read_looks(tmp_path)) == looks


def test_an_arm_without_pretraining_starts_as_pretraining_does(data: Path, tmp_path: Path) -> None:
    plan = plan_of(data, tmp_path)
    plan.write_initial_weights()
    start = torch.load(plan.initial_weights(0), weights_only=True)["model"]
    other = torch.load(plan.initial_weights(1), weights_only=True)["model"]
    parser = read_parser(plan.recipe.pretraining_bundle, plan.recipe.pretrain, plan.settings.options("pretraining"))
    fresh = parser.get_parsed_content("network_def").state_dict()
    assert start.keys() == fresh.keys()
    drawn = [name for name in fresh if fresh[name].dtype.is_floating_point and fresh[name].std() > 0]
    assert any("pos_embed" in name for name in drawn)
    for name in drawn:
        assert start[name].std() == pytest.approx(fresh[name].std().item(), rel=0.5)
    assert any(not torch.equal(start[name], other[name]) for name in drawn)
