"""What a comparison's folder remembers between two commands."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from custom.errors import InputError
from custom.files import read_json
from custom.study.compare import count_look, forget_reading, remember
from custom.study.results import Results, read_looks
from custom.study.run import DONE, LOOKS
from custom.study.settings import Settings, read_settings
from scripts.tiny import ROOT


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"one")
    given = {"arms": ("scratch", "given"), "weights": str(weights), "seeds": 3}
    return read_settings(bundle=str(ROOT / "bundles" / "unetr_btcv"), dataset_dir="data", **given)


def test_more_seeds_and_rates_go_on_in_the_same_folder(settings: Settings, tmp_path: Path) -> None:
    remember(settings, tmp_path)
    remember(replace(settings, seeds=5, learning_rates=(1e-4, 1e-3)), tmp_path)
    assert read_json(tmp_path / "settings.json")["seeds"] == 5


def test_other_steps_are_another_comparison(settings: Settings, tmp_path: Path) -> None:
    remember(settings, tmp_path)
    with pytest.raises(InputError, match=r"holds a comparison with another steps \(1000, not 1001\)"):
        remember(replace(settings, steps=settings.steps + 1), tmp_path)
    with pytest.raises(InputError, match=r"with another shared \(num_heads: None, not 6\)"):
        remember(replace(settings, shared={"num_heads": 6}), tmp_path)


@pytest.mark.parametrize("trained", [True, False])
def test_a_folder_in_which_nothing_was_trained_takes_other_settings(
    settings: Settings, tmp_path: Path, trained: bool
) -> None:
    remember(settings, tmp_path)
    for name in ("lists/own.json", "initial/seed0.pt", "runs/preparation/a/log.txt", "cache/a.npy", "mine.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    if trained:
        (tmp_path / "runs" / "pretraining").mkdir()
    before = set(tmp_path.rglob("*"))
    forget_reading(tmp_path)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert set(tmp_path.rglob("*")) == before if trained else left == {"cache/a.npy", "mine.txt", "weights.pt"}
    with pytest.raises(InputError) if trained else nullcontext():
        remember(replace(settings, steps=7), tmp_path)


def test_what_a_kill_left_of_a_forgotten_reading_is_forgotten_too(settings: Settings, tmp_path: Path) -> None:
    remember(settings, tmp_path)
    for name in ("lists/own.json", "initial/seed0.pt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed_after(2))
        forget_reading(tmp_path)
    forget_reading(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["weights.pt"]


def killed_after(files: int) -> Callable[[Path], None]:
    """`Path.unlink` that is interrupted once it has removed as many files."""
    remove, removed = Path.unlink, []

    def unlink(path: Path) -> None:
        if len(removed) == files:
            raise KeyboardInterrupt
        removed.append(path)
        remove(path)

    return unlink


def test_looks_are_not_forgotten_with_the_runs(settings: Settings, tmp_path: Path) -> None:
    remember(settings, tmp_path)
    count_look(settings, tmp_path, [])
    forget_reading(tmp_path)
    with pytest.raises(InputError, match="holds a comparison with another learning_rates"):
        remember(replace(settings, learning_rates=(1e-2,)), tmp_path)


def test_other_weights_in_the_same_file_are_another_comparison(settings: Settings, tmp_path: Path) -> None:
    remember(settings, tmp_path)
    Path(settings.weights).write_bytes(b"two")
    with pytest.raises(InputError, match="holds a comparison with another weights_digest"):
        remember(settings, tmp_path)


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize(
    ("name", "more"), [("learning_rates", (1e-4,)), ("variants", {"half": {"masking_ratio": 0.5}})]
)
def test_nothing_is_chosen_once_test_cases_were_scored(
    settings: Settings, tmp_path: Path, name: str, more: object, looked: bool
) -> None:
    remember(settings, tmp_path)
    if looked:
        count_look(settings, tmp_path, [])
    else:
        scored = tmp_path / "runs" / "evaluation" / "scratch_all_seed0_rate0.001_decay1_last_test" / DONE
        scored.parent.mkdir(parents=True)
        scored.touch()
    remember(replace(settings, seeds=5), tmp_path)
    with pytest.raises(InputError, match=f"holds a comparison with another {name}"):
        remember(replace(settings, seeds=5, **{name: more}), tmp_path)


SCORED = "{} seeds of scratch, given and all labelled"


def test_what_test_cases_were_scored_with_is_kept_once(settings: Settings, tmp_path: Path) -> None:
    trained = tmp_path / DONE
    for seeds, probe in ((3, True), (3, True), (5, True), (3, True), (3, False)):
        trained.write_text(f"{seeds} runs")
        count_look(replace(settings, seeds=seeds, probe=probe), tmp_path, [trained])
    told = [look["scored"] for look in read_looks(tmp_path)]
    assert told == [SCORED.format(3), SCORED.format(5), f"{SCORED.format(3)}, without frozen encoders"]


def test_models_that_were_trained_again_are_another_look(settings: Settings, tmp_path: Path) -> None:
    for seconds in ("3.1", "3.1", "3.2", "3.1", "3.2"):
        (tmp_path / DONE).write_text(seconds)
        count_look(settings, tmp_path, [tmp_path / DONE])
    assert looks_of(tmp_path) == [SCORED.format(3), f"{SCORED.format(3)}, trained again"]


def looks_of(folder: Path) -> list[str]:
    """In the words of the answer."""
    return Results(SimpleNamespace(folder=folder), {}, {}).looks()


@pytest.mark.parametrize("probe", [True, False])
@pytest.mark.parametrize("older", [SCORED.format(3), {"scored": SCORED.format(3), "runs": "abc"}])
def test_a_look_of_an_older_version_is_counted_once_and_what_is_trained_after_it_again(
    settings: Settings, tmp_path: Path, older: object, probe: bool
) -> None:
    (tmp_path / LOOKS).write_text(json.dumps([older]))
    for seconds in ("3.1", "3.1", "3.2"):
        (tmp_path / DONE).write_text(seconds)
        count_look(replace(settings, probe=probe), tmp_path, [tmp_path / DONE])
    scored = SCORED.format(3) + ("" if probe else ", without frozen encoders")
    assert looks_of(tmp_path) == [scored, f"{scored}, trained again"]


def test_a_bundle_whose_configs_changed_is_another_comparison(tmp_path: Path) -> None:
    bundle = tmp_path / "vit_cxr14"
    shutil.copytree(ROOT / "bundles" / "vit_cxr14" / "configs", bundle / "configs")
    settings = read_settings(bundle=str(bundle), dataset_dir="data")
    for _ in range(2):
        remember(settings, tmp_path / "out")
    train = bundle / "configs" / "train.json"
    train.write_text(train.read_text() + "\n")
    with pytest.raises(InputError, match=r"another configs \(vit_cxr14/train\.json: "):
        remember(settings, tmp_path / "out")


def test_weights_from_elsewhere_may_come_later_but_not_change(settings: Settings, tmp_path: Path) -> None:
    remember(replace(settings, arms=("scratch",), weights=""), tmp_path)
    remember(settings, tmp_path)
    with pytest.raises(InputError, match="holds a comparison with another weights"):
        remember(replace(settings, weights=str(tmp_path / "settings.json")), tmp_path)
