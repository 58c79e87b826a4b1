"""MLflow: `--tracking mlflow` makes MONAI add its MLFlowHandler to a config; here it learns what our runs can tell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.bundle import ConfigExpression, ConfigParser
from monai.handlers import MLFlowHandler

PARAMETER_LENGTH = 500  # the most that every MLflow server takes
OF_TRACKING = ("tracking_uri", "experiment_name", "run_name", "save_execute_config", "is_not_rank0")


def run_tracked(
    engine: Engine,
    handlers: Sequence[Any],
    kind: str,
    output_dir: str | Path,
    weights: str | Path = "",
    config: str | bool | None = None,
) -> None:
    """Run `engine`; where MONAI put an MLFlowHandler among its handlers, as one MLflow run that ends with it.

    That run gets the options at the top of the saved config as parameters, at the end the engine's metrics, and as
    artifacts the config and those pictures, tables and weights that were written meanwhile. It ends as FAILED if the
    engine does.

    Args:
        engine: a trainer, or an evaluator if it is what the command runs.
        handlers: those of the engine, and of the validator it runs.
        kind: begins the name of the run, unless the user gave `run_name`.
        output_dir: where pictures (*.png) and tables (*.csv) are looked for.
        weights: a file that training writes.
        config: where MONAI saved the config that is run, as its item `save_execute_config` says; with False there are
            no parameters but those of the engine.
    """
    trackers = [handler for handler in handlers if isinstance(handler, MLFlowHandler)]
    if not trackers:
        engine.run()
        return
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    saved = saved_config(config, output_dir)
    begin(engine, trackers, kind, options_in(saved) if saved else {})
    client, run_id = trackers[0].client, trackers[0].cur_run.info.run_id
    before, status = stamps(output_dir, weights), "FAILED"
    try:
        engine.run()
        log_metrics(client, run_id, engine)
        written = [path for path, stamp in stamps(output_dir, weights).items() if before.get(path) != stamp]
        for path in [*written, *([saved] if saved else [])]:
            client.log_artifact(run_id, str(path))
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
        for tracker in trackers:
            tracker.cur_run = None
            tracker.close()  # lets go of the database


def begin(engine: Engine, trackers: Sequence[MLFlowHandler], kind: str, parameters: Mapping[str, Any]) -> None:
    """Start one run for all `trackers`, with the parameters.

    Without a name given MONAI would go on with any open run, so the run is made here. One that the user named is
    continued if it did not finish and all its parameters but `resume` are the same, since MLflow changes none.
    """
    first = trackers[0]
    first.artifacts, first.optimizer_param_names = (), ()
    if hasattr(engine, "optimizer"):
        first.output_transform = lambda output: {"train_loss": output["loss"].item(), "lr": highest_rate(engine)}
    of_engine = {name: getattr(engine.state, name) for name in first.default_tracking_params}
    texts = {name: str(value)[:PARAMETER_LENGTH] for name, value in {**parameters, **of_engine}.items()}
    experiment = experiment_of(first)
    run = unfinished_run(first, experiment, texts) if first.run_name and parameters else None
    if run is None:
        name = first.run_name or f"{kind} {time.strftime('%Y-%m-%d %H:%M:%S')}"
        run = first.client.create_run(experiment, run_name=str(name))
        for parameter, text in texts.items():
            first.client.log_param(run.info.run_id, parameter, text)
    for tracker in trackers:
        tracker.cur_run = run
        tracker.epoch_logger = partial(log_metrics, tracker.client, run.info.run_id)
    if not hasattr(engine, "optimizer"):
        first.epoch_logger = lambda _: None  # the reports of an evaluation are complete after its epoch


def experiment_of(tracker: MLFlowHandler) -> str:
    """The id of the tracker's experiment, which is made when missing."""
    from mlflow.exceptions import MlflowException  # training needs no mlflow

    try:
        return str(tracker.client.create_experiment(tracker.experiment_name, tracker.artifact_location))
    except MlflowException as error:  # another training may make it at the same time
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(tracker.client.get_experiment_by_name(tracker.experiment_name).experiment_id)


def unfinished_run(tracker: MLFlowHandler, experiment: str, parameters: Mapping[str, str]) -> Any | None:
    """The latest run with the tracker's name and these parameters that did not finish; `resume` may differ."""
    fixed = {name: text for name, text in parameters.items() if name != "resume"}
    for run in tracker.client.search_runs([experiment], "attributes.status != 'FINISHED'"):
        if run.info.run_name == str(tracker.run_name) and fixed.items() <= run.data.params.items():
            return run
    return None


def log_metrics(client: Any, run_id: str, engine: Engine) -> None:
    """Log those of the engine's metrics that are one number each; MLflow takes no others."""
    for name, value in engine.state.metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError, RuntimeError):  # the last is torch's
            continue
        client.log_metric(run_id, name, number, step=engine.state.epoch)


def highest_rate(engine: Engine) -> float:
    """The learning rate of the head, where deeper layers learn more slowly."""
    return max(float(group["lr"]) for group in engine.optimizer.param_groups)


def options_in(config: Path) -> dict[str, Any]:
    """The numbers, words and lists of them at the top level of a saved config; expressions as what they amount to."""
    content = json.loads(config.read_text(encoding="utf-8"))
    parser = ConfigParser(content)
    options = {}
    for name, value in content.items():
        if name in OF_TRACKING or not is_plain(value):
            continue
        with suppress(KeyError, ValueError, RuntimeError):  # MONAI's, of an expression about objects: none is made here
            options[name] = parser.get_parsed_content(name, instantiate=False)
    return {name: value for name, value in options.items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether this is a number, a word, or a list of them; a list of expressions is something to do."""
    if isinstance(value, list | tuple):
        return all(is_plain(item) and not ConfigExpression.is_expression(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


def stamps(output_dir: str | Path, weights: str | Path) -> dict[Path, int]:
    """When each picture, table and the weights were last written, in ns."""
    paths = [*Path(output_dir).glob("*.png"), *Path(output_dir).glob("*.csv"), Path(weights)]
    return {path: path.stat().st_mtime_ns for path in sorted(paths) if path.is_file()}


def saved_config(config: str | bool | None, output_dir: str | Path) -> Path | None:
    """The file of `save_execute_config`; where `output_dir` is no expression, MONAI gives it as "OUT + '/NAME'"."""
    if not isinstance(config, str):
        return None
    paths = (Path(config), Path(output_dir) / Path(config).name.rstrip("'"))
    return next((path for path in paths if path.is_file()), None)
