"""What is chosen, and what the answer says of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from custom.errors import InputError
from custom.study import answer as words
from custom.study import choose as choosing
from custom.study import curves
from custom.study.compare import tune
from custom.study.curves import mean_curve
from custom.study.run import Choice, Setup
from custom.study.statistics import Difference

LOW, HIGH = Choice(1e-3, 1.0), Choice(3e-3, 1.0)


def plan_of(**settings: Any) -> SimpleNamespace:
    given: dict[str, Any] = {
        "arms": ("scratch", "self"),
        "cases": (0,),
        "seeds": 5,
        "section": "test",
        "learning_rates": (1e-3, 3e-3),
    }
    given |= {"layer_decays": (1.0,), "pretrain_on": "all", "label": str}
    lists = SimpleNamespace(count=lambda cases, seed: 18, sections={"validation": [None] * 20})
    return SimpleNamespace(
        settings=SimpleNamespace(**(given | settings)), lists=lists, path=Path,
        fine_tuning=lambda setup, choice: SimpleNamespace(name=f"{setup}_{choice}"),
        evaluation=lambda setup, choice, *_: SimpleNamespace(name=f"{setup}_{choice}_scored"),
        recipe=SimpleNamespace(classifies=False, metric="Dice"),
        setups=lambda: [Setup("scratch", 0, 0), Setup("scratch", 0, 1)], choices=lambda: [LOW, HIGH],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [((0.5, 0.6), HIGH), ((0.6, 0.5), LOW), ((0.5, 0.5), LOW), ((-np.inf, 0.1), HIGH)],
)
def test_what_validates_best_is_chosen_the_lower_of_equals(
    scores: tuple[float, float], chosen: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict(zip((LOW, HIGH), scores, strict=True))
    monkeypatch.setattr(choosing, "validated", lambda plan, setup, choice: known[choice])
    assert choosing.choose(plan_of()) == {("scratch", 0): chosen}


def test_an_arm_that_always_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "validated", lambda *_: -np.inf)
    with pytest.raises(InputError, match="no fine-tuning of scratch_all_seed0 succeeded"):
        choosing.choose(plan_of())


def test_what_an_arm_could_not_train_with_is_named(tmp_path: Path) -> None:
    plan = plan_of()
    plan.path = tmp_path.joinpath
    (tmp_path / f"scratch_all_seed0_{HIGH}").mkdir()
    assert choosing.diverged(plan, 0) == []
    (tmp_path / f"scratch_all_seed0_{HIGH}" / "failed.json").touch()
    assert choosing.diverged(plan, 0) == ["scratch at 0.003"] and choosing.diverged(plan, 6) == []
    (tmp_path / f"scratch_all_seed0_{LOW}_scored").mkdir()
    (tmp_path / f"scratch_all_seed0_{LOW}_scored" / "failed.json").touch()
    assert choosing.diverged(plan, 0) == ["scratch at 0.001", "scratch at 0.003"]


@pytest.mark.parametrize("seeds", [0, 1])
def test_an_arm_that_diverges_with_a_later_seed_chooses_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int
) -> None:
    plan = plan_of()
    plan.path, plan.evaluation = tmp_path.joinpath, lambda setup, choice, *_: SimpleNamespace(name=str(choice))
    scores = {str(LOW): 0.5, str(HIGH): 0.6}
    for name in scores:
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").touch()
    scored = {name: SimpleNamespace(mean=lambda _, s=score: np.array([s]), cases="a") for name, score in scores.items()}
    monkeypatch.setattr(choosing, "read_evaluation", lambda plan, name, section: scored[name])
    lost: set[str] = set()

    class Machine:
        """Diverges with the higher rate, with seed 0 or 1."""

        def execute(self, stage: str, runs: list, may_fail: list) -> None:
            assert may_fail == runs
            for run in runs:
                if run.name == f"scratch_all_seed{seeds}_{HIGH}":
                    lost.add(run.name)
                    (tmp_path / run.name).mkdir()
                    (tmp_path / run.name / "failed.json").touch()

        def failed(self, name: str) -> bool:
            return name in lost

    assert tune(plan, Machine()) == {("scratch", 0): LOW} and lost
    assert choosing.diverged(plan, 0) == ["scratch at 0.003"]


def results_of(
    found: dict[str, tuple[float, float, float]], gate: float = 1.0, absent: float = 0.5, **settings: Any
) -> SimpleNamespace:
    def difference(arm: str, cases: int, other: str = "scratch", checkpoint: str = "last") -> Difference:
        return Difference(*found[f"{arm}-{other}"], 0.1)

    scored = SimpleNamespace(cases=tuple("abc"), classes=("spleen", "liver"), per_class=lambda: np.array([0.5, absent]))
    scored.mean = lambda _: np.array([0.3])
    scores = {(arm, 0, "last"): [scored] for arm in settings.get("arms", ("scratch", "self"))}
    choices = {("scratch", 0): Choice(2e-3, 1.0), ("self", 0): Choice(2e-3, 1.0)}
    return SimpleNamespace(
        plan=plan_of(**settings), difference=difference, scores=scores, choices=choices,
        gates=lambda: {"self_all_seed0": {"passed": gate}}, looks=lambda: ["5 seeds"], made_by=lambda: [{}],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.02, 0.01, 0.03), "It is better."), ((-0.02, -0.03, -0.01), "worse"), ((0.01, -0.01, 0.03), "No change is")],
)
def test_the_verdict_is_what_the_interval_says(interval: tuple, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "steps_to_reach", lambda *_: 0.5)
    text = words.answer(results_of({"self-scratch": interval}))
    assert not any(words in text for words in ("never occur", "times", "versions", "ends no better", "Only one"))
    assert said in text and f"{interval[0]:+.3f} [{interval[1]:+.3f}, {interval[2]:+.3f}]" in text
    assert "from 50 % of scratch's steps on" in text


def test_everything_that_stands_against_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "steps_to_reach", lambda *_: float("nan"))
    monkeypatch.setattr(words, "diverged", lambda *_: ["from scratch at 0.003"])
    none = (0.0, -0.1, 0.1)
    arms = ("scratch", "self", "scratch_long", "broken", "pixels")
    found = {"self-scratch": none, "self-scratch_long": (-0.2, -0.3, -0.1), "self-broken": none, "scratch-pixels": none}
    found["scratch_long-scratch"] = (-0.01, -0.02, 0.01)
    results = results_of(found, gate=0.0, absent=np.nan, arms=arms, section="validation")
    results.looks, results.made_by = lambda: ["3 seeds", "5 seeds"], lambda: [{"torch": "1"}, {"torch": "2"}]
    results.choices["self", 0], results.plan.lists.sections["validation"] = HIGH, [None] * 3
    text = words.answer(results)
    for said in ("it is worse", "ends below", "not learnt context", "pixels without", "shuffled patches", "a hint"):
        assert said in text
    assert text.count("not shown to be better") == 2 and "diverged, so" in text and "from scratch at 0.003" in text
    assert "1 of 2 classes never occur" in text
    assert (
        "were scored 2 times (3 seeds; 5 seeds)" in text
        and "2 versions of code" in text
        and "ends no better than with less" in text
    )
    assert "learning rate of self ends" in text and "Only 3 validation cases" in text


def test_what_stands_against_it_is_said_without_self_pretraining_too() -> None:
    results = results_of({}, absent=np.nan, arms=("scratch", "given"), section="validation")
    results.choices["given", 0] = HIGH
    text = words.answer(results)
    assert text.startswith("This comparison has no arm `self`")
    assert all(said in text for said in ("a hint", "1 of 2 classes", "learning rate of given ends"))


@pytest.mark.parametrize(("dice", "said"), [(0.009, True), (0.011, False)])
def test_networks_that_find_nothing_are_told_first(dice: float, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "steps_to_reach", lambda *_: 1.0)
    results = results_of({"self-scratch": (0.0, -0.001, 0.001), "self-pixels": (0, 0, 0), "scratch-pixels": (0, 0, 0)})
    results.scores["scratch", 0, "last"][0].mean = lambda _: np.array([dice])
    assert ("no fine-tuned network finds anything (mean Dice 0.009 at best)" in words.answer(results)) == said


def test_choices_with_fewer_cases_are_told_of_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "diverged", lambda plan, cases: ["from scratch at 0.003"] if cases == 6 else [])
    results = results_of({}, arms=("scratch",), cases=(6, 0))
    results.choices["scratch", 6] = HIGH
    text = words.answer(results)
    assert "learning rate of scratch with 6 labelled ends" in text and "diverged with 6 labelled, so" in text


@pytest.mark.parametrize(("least", "said"), [(9, True), (10, False)])
def test_few_positive_validation_images_are_a_doubt(least: int, said: bool) -> None:
    results = results_of({}, arms=("scratch",))
    results.plan.recipe.classifies, results.plan.lists.positives = True, lambda name: least
    assert ("Fewer than 10 images of any finding" in words.answer(results)) == said


def test_a_single_learning_rate_is_a_doubt() -> None:
    results = results_of({}, arms=("scratch",))
    results.plan.choices = lambda: [LOW]
    assert "Only one learning rate was tried" in words.answer(results)


@pytest.mark.parametrize(
    ("choice", "ends"),
    [
        (Choice(1e-3, 1.0), ["learning_rate"]),
        (Choice(2e-3, 1.0), []),
        (Choice(2e-3, 0.5), ["layer_decay"]),
        (Choice(2e-3, 0.75), []),
        (Choice(3e-3, 0.5), ["learning_rate", "layer_decay"]),
    ],
)
def test_no_decay_ends_nothing_but_the_lowest_and_outer_rates_do(choice: Choice, ends: list[str]) -> None:
    plan = plan_of(learning_rates=(1e-3, 2e-3, 3e-3), layer_decays=(0.5, 0.75, 1.0))
    assert choosing.edges(plan, choice) == ends


@pytest.mark.parametrize(
    ("values", "share"), [([5, 1, 5, 6], 0.75), ([5, 5, 5, 5], 0.25), ([1, 6, 7, 3], np.nan), ([1, 1, 1, 4], 1.0)]
)
def test_a_curve_is_there_when_it_does_not_fall_back(
    values: list[int], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = np.arange(1, 5) * 10
    found = {"scratch": [(steps, np.array([1, 2, 3, 4]))], "self": [(steps, np.array(values))]}
    monkeypatch.setattr(curves, "curves_of", lambda plan, choices, arm, cases: found[arm])
    assert curves.steps_to_reach(None, {}, "self", 0) == pytest.approx(share, nan_ok=True)


def test_two_seeds_get_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "steps_to_reach", lambda *_: 1.0)
    text = words.answer(results_of({"self-scratch": (0.02, 0.01, 0.03)}, seeds=2))
    assert "no verdict" in text and "better" not in text and "steps" not in text


def test_curves_of_seeds_with_other_epochs_are_averaged_at_the_same_iterations() -> None:
    steps, values = mean_curve([(np.array([10, 20]), np.array([0.0, 1.0])), (np.array([5, 25]), np.array([0.0, 2.0]))])
    assert steps.tolist() == [10, 20] and values.tolist() == [0.25, 1.25]
