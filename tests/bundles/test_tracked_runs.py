"""Which MLflow run a command writes to, and what of its engine and config that run gets."""

import json
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser, ConfigWorkflow
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from monai.engines import SupervisedTrainer
from monai.handlers import MLFlowHandler

from custom.tracking import options_in, run_tracked, saved_config

from .conftest import ROOT
from .test_tracking import Store

pytest.importorskip("mlflow")
from mlflow.entities import Run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store") / "mlruns.db")


def tracker_of(store: Store, experiment: str, name: str | None = None) -> MLFlowHandler:
    return MLFlowHandler(store.uri, experiment_name=experiment, run_name=name, close_on_complete=True)


def trainer_of(handler: MLFlowHandler, loss: Any = None, epochs: int = 1) -> SupervisedTrainer:
    """A training of one weight."""
    network = torch.nn.Linear(1, 1)
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=[{"image": torch.ones(1, 1), "label": torch.ones(1, 1)}],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=loss or torch.nn.MSELoss(),
        train_handlers=[handler],
        decollate=False,
    )


def saved(folder: Path, options: Mapping[str, Any]) -> str:
    """A config file as MONAI saves it."""
    path = folder / "saved.json"
    path.write_text(json.dumps(options))
    return str(path)


def train(
    store: Store, folder: Path, experiment: str, options: Mapping[str, Any], name: str | None = None, **more: Any
) -> None:
    """A training with these options, tracked in an experiment of its own."""
    handler = tracker_of(store, experiment, name)
    run_tracked(trainer_of(handler, **more), [handler], "training", folder, config=saved(folder, options))


def fail(*_: Any) -> None:
    raise ArithmeticError("no loss")


def runs_in(store: Store, experiment: str) -> list[Run]:
    return list(store.client.search_runs([store.client.get_experiment_by_name(experiment).experiment_id]))


def of(store: Store, experiment: str) -> list[dict[str, str]]:
    """Status and parameters of the runs in an experiment, the latest first."""
    found = runs_in(store, experiment)
    return [{"status": run.info.status, "name": run.info.run_name} | run.data.params for run in found]


def test_two_trainings_that_start_in_the_same_second_are_two_runs(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: "2030-01-01 00:00:00")
    first, second = (tracker_of(store, "sweep") for _ in range(2))

    def start_the_second(*_: Any) -> torch.Tensor:
        run_tracked(trainer_of(second), [second], "training", tmp_path, config=saved(tmp_path, {"learning_rate": 0.2}))
        return torch.zeros((), requires_grad=True)

    config = saved(tmp_path, {"learning_rate": 0.1})
    run_tracked(trainer_of(first, start_the_second), [first], "training", tmp_path, config=config)
    runs = of(store, "sweep")
    assert {run["learning_rate"] for run in runs} == {"0.1", "0.2"} and len(runs) == 2
    assert {run["name"] for run in runs} == {"training 2030-01-01 00:00:00"}
    assert {run["status"] for run in runs} == {"FINISHED"}


def test_a_failed_run_of_that_name_with_another_parameter_stays_as_it_was(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(store, tmp_path, "other", {"learning_rate": 0.1, "resume": False}, "mine", loss=fail)
    train(store, tmp_path, "other", {"learning_rate": 0.001, "resume": False}, "mine")
    second, first = of(store, "other")
    assert (first["status"], first["learning_rate"], first["name"]) == ("FAILED", "0.1", "mine")
    assert (second["status"], second["learning_rate"], second["name"]) == ("FINISHED", "0.001", "mine")


def test_a_failed_run_is_continued_by_its_name_where_only_resume_differs(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(store, tmp_path, "same", {"learning_rate": 0.1, "resume": False}, "mine", loss=fail)
    train(store, tmp_path, "same", {"learning_rate": 0.1, "resume": True}, "mine")
    (run,) = of(store, "same")
    assert run["status"] == "FINISHED" and run["learning_rate"] == "0.1"


def test_a_resumed_run_with_more_epochs_is_a_run_of_its_own_with_its_own_number(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArithmeticError):
        train(store, tmp_path, "more", {"learning_rate": 0.1, "resume": False}, "mine", loss=fail)
    train(store, tmp_path, "more", {"learning_rate": 0.1, "resume": True}, "mine", epochs=2)
    assert [(run["status"], run["max_epochs"]) for run in of(store, "more")] == [("FINISHED", "2"), ("FAILED", "1")]


def test_what_finished_is_never_written_to_again(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        train(store, tmp_path, "done", {"learning_rate": 0.1}, "mine")
    assert [run["status"] for run in of(store, "done")] == ["FINISHED"] * 2


def test_metrics_that_are_not_one_number_are_left_out(store: Store, tmp_path: Path) -> None:
    numbers = {"float": 0.5, "whole": 3, "tensor": torch.tensor([0.25]), "array": np.float32(2)}
    others = {"classes": torch.ones(3), "rows": np.ones((2, 2)), "list": [1.0], "words": "good", "none": None}
    handler = tracker_of(store, "metrics")
    trainer = trainer_of(handler)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: trainer.state.metrics.update(others | numbers))
    run_tracked(trainer, [handler], "training", tmp_path)
    (run,) = runs_in(store, "metrics")
    assert run.info.status == "FINISHED"
    measured = {name: value for name, value in run.data.metrics.items() if name not in ("train_loss", "lr")}
    assert measured == {"float": 0.5, "whole": 3, "tensor": 0.25, "array": 2}


BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/train.json"))
NOT_OPTIONS = {"experiment_name", "save_execute_config"}  # of the tracking itself


def patched(name: str, *configs: str, **options: Any) -> ConfigParser:
    """What MONAI makes of a bundle's configs with `--tracking mlflow`; it saves it in `output_dir`."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "bundles" / name / "configs" / f"{config}.json") for config in configs])
    parser.update(options)
    ConfigWorkflow.patch_bundle_tracking(parser, deepcopy(DEFAULT_MLFLOW_SETTINGS))
    return parser


@pytest.mark.parametrize("name", BUNDLES)
def test_every_option_at_the_top_of_a_config_is_a_parameter(name: str, tmp_path: Path) -> None:
    content = json.loads((ROOT / "bundles" / name / "configs" / "train.json").read_text())
    simple = {key for key, value in content.items() if value is None or isinstance(value, bool | int | float | str)}
    lists = {key for key, value in content.items() if isinstance(value, list) and "$" not in str(value)}
    parser = patched(name, "train", output_dir=str(tmp_path), learning_rate=0.5, max_epochs=60, bundle_root="/b")
    options = options_in(saved_config(parser["save_execute_config"], tmp_path))
    assert set(options) == (simple | lists) - NOT_OPTIONS - {"network", "device"}  # of these, only Python has a value
    assert (options["learning_rate"], options["output_dir"]) == (0.5, str(tmp_path))
    assert options["warmup_epochs"] in (2, 3, 6) and options["ckpt_dir"] == "/b/models"


def test_nothing_is_made_or_done_to_read_the_options(tmp_path: Path) -> None:
    config = {"loss": {"_target_": "builtins.open", "file": str(tmp_path / "made"), "mode": "w"}}
    config |= {"initialize": [f"$open({str(tmp_path / 'done')!r}, 'w')"], "of_loss": "$@loss.name", "alias": "@loss"}
    config |= {"rate": "$@base * 2", "base": 2, "missing": "@nowhere"}
    assert options_in(Path(saved(tmp_path, config))) == {"rate": 4, "base": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["saved.json"]


def test_the_saved_config_is_found_under_the_name_that_monai_garbles(tmp_path: Path) -> None:
    given = patched("unetr_btcv", "train", output_dir=str(tmp_path / "given"))["save_execute_config"]
    assert given.endswith(".json'") and not Path(given).exists()  # else `rstrip` in saved_config can go
    assert saved_config(given, tmp_path / "given").parent == tmp_path / "given"
    derived = patched("unetr_btcv", "train", bundle_root=str(tmp_path), output_dir="$@bundle_root + '/derived'")
    path = derived.get_parsed_content("save_execute_config")
    assert saved_config(path, derived.get_parsed_content("output_dir")) == Path(path)


def test_a_config_that_the_user_saves_elsewhere_is_read_there_and_none_at_all_if_not_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "mine.json")
    named = patched("unetr_btcv", "train", output_dir=str(tmp_path / "out"), save_execute_config=path)
    assert saved_config(named["save_execute_config"], tmp_path / "out") == Path(path)
    none = patched("unetr_btcv", "train", output_dir=str(tmp_path / "out"), save_execute_config=False)
    assert saved_config(none["save_execute_config"], tmp_path / "out") is None
    assert saved_config(True, tmp_path) is None  # without --tracking
