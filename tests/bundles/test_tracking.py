"""`--tracking mlflow`: parameters, metrics, pictures and weights of a run are in a local MLflow store."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from .conftest import ROOT, TINY, RunBundle

mlflow = pytest.importorskip("mlflow")
from mlflow.entities import Run  # noqa: E402

WATCH = """
import pathlib, socket
ask = socket.getaddrinfo
def watched(host, *rest, **named):
    pathlib.Path({log!r}).open("a").write(f"{{host}}\\n")
    return ask(host, *rest, **named)
socket.getaddrinfo = watched
"""
TRAIN = ("train",)
EVALUATE = ("train", "evaluate")
PRETRAIN = ("train", "pretrain")
MEASURE = ("train", "pretrain", "pretrain_evaluate")
GATE = {"gate_passed", "masked_loss", "neighbour_mean_loss", "position_mean_loss", "flat_patch_loss"}
DICE = {"dice_native_mean", "hd95_mm_native_mean", "dice_resampled_mean"}


class Store:
    """A local store, read with MLflow's own client."""

    def __init__(self, path: Path) -> None:
        self.uri = f"sqlite:///{path}"
        self.client = mlflow.MlflowClient(tracking_uri=self.uri)

    def runs(self, filter_string: str = "") -> list[Run]:
        """All runs, the latest first."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, filter_string))

    def artifacts(self, run: Run) -> set[str]:
        return {file.path for file in self.client.list_artifacts(run.info.run_id)}

    def fetch(self, run: Run, name: str, folder: Path) -> Path:
        return Path(self.client.download_artifacts(run.info.run_id, name, str(folder)))

    def history(self, run: Run, name: str) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store for many bundles: making a database takes MLflow seconds."""
    return Store(tmp_path_factory.mktemp("shared") / "mlruns.db")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "train", "weights", "learnt", "evaluate", "measured", "drawn"), [
    ("mae_pretrain_ct", TRAIN, "model.pt", GATE, EVALUATE, GATE, ("pretraining.png", "reconstruction.png")),
    ("unetr_brats", PRETRAIN, "pretrained.pt", GATE, MEASURE, GATE, ("pretraining.png", "reconstruction.png")),
    ("vit_cxr14", PRETRAIN, "pretrained.pt", GATE, MEASURE, GATE, ("pretraining.png", "reconstruction.png")),
    ("unetr_btcv", TRAIN, "model.pt", {"val_mean_dice"}, EVALUATE, DICE, ("validation.png", "evaluation.png")),
    ("unetr_brats", TRAIN, "model.pt", {"val_mean_dice"}, EVALUATE, DICE, ("validation.png", "evaluation.png")),
    ("vit_cxr14", TRAIN, "model.pt", {"val_mean_auc"}, EVALUATE, {"auc_mean"}, ("validation_roc.png", "roc.png")),
])  # fmt: skip
def test_training_and_evaluation_are_runs_with_parameters_metrics_pictures_and_weights(
    name: str,
    train: tuple[str, ...],
    weights: str,
    learnt: set[str],
    evaluate: tuple[str, ...],
    measured: set[str],
    drawn: tuple[str, str],
    run_bundle: RunBundle,
    shared: Store,
    tmp_path: Path,
) -> None:
    own = {"tracking": "mlflow", "tracking_uri": shared.uri, "output": tmp_path}
    run_bundle(name, *train, max_epochs=2, val_interval=1, **own)
    run_bundle(name, *evaluate, checkpoint=str(tmp_path / weights), **own)
    evaluation, training = shared.runs(f"params.output_dir = '{tmp_path}'")
    experiment = shared.client.get_experiment(training.info.experiment_id)
    assert experiment.name == name
    assert [run.info.status for run in (evaluation, training)] == ["FINISHED"] * 2
    assert training.data.params["hidden_size"] == "24" and training.data.params["max_epochs"] == "2"
    assert float(training.data.params["learning_rate"]) > 0 and len(training.data.params) < 65
    assert evaluation.data.params["checkpoint"] == str(tmp_path / weights)
    assert learnt | {"train_loss", "lr"} <= set(training.data.metrics) and measured <= set(evaluation.data.metrics)
    assert {weights, drawn[0]} <= shared.artifacts(training)
    assert drawn[1] in shared.artifacts(evaluation) and weights not in shared.artifacts(evaluation)
    for run, picture in zip((training, evaluation), drawn, strict=True):
        with Image.open(shared.fetch(run, picture, tmp_path)) as image:
            assert image.format == "PNG" and min(image.size) > 100
        assert any(file.startswith("config_") for file in shared.artifacts(run))
    kept = torch.load(shared.fetch(training, weights, tmp_path / "new"), weights_only=True)["model"]
    assert all(torch.equal(kept[key], value) for key, value in _weights(tmp_path / weights).items())


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


@pytest.fixture(scope="module")
def store(run_bundle: RunBundle, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of the user's own: a run that was killed, then one of three epochs whose name the user gave."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mine.db'}"
    client = mlflow.MlflowClient(tracking_uri=uri)
    client.create_run(client.create_experiment("study", artifact_location=f"file://{folder}/files"), run_name="killed")
    own = {"tracking": "mlflow", "tracking_uri": uri, "experiment_name": "study"}
    run_bundle("vit_cxr14", "train", output=folder / "a", max_epochs=3, run_name="first", batch_size=8, **own)
    run_bundle("vit_cxr14", "train", output=folder / "b", **own)
    with pytest.raises(RuntimeError):  # MONAI's wrapping of what the trainer raises
        run_bundle("vit_cxr14", "train", output=folder / "c", log_interval="many", **own)
    return Store(folder / "mine.db")


@pytest.mark.slow
def test_a_run_goes_where_the_user_says_and_never_into_one_that_was_killed(store: Store) -> None:
    failed, second, first, killed = store.runs()
    assert first.info.run_name == "first" and second.info.run_name.startswith("training ")
    assert [run.info.status for run in (failed, second, first, killed)] == ["FAILED", "FINISHED", "FINISHED", "RUNNING"]
    assert not killed.data.params and not killed.data.metrics


@pytest.mark.slow
def test_losses_are_there_by_iteration_and_validation_by_epoch(store: Store) -> None:
    first = store.runs()[2]
    iterations = int(first.data.params["epoch_length"]) * 3
    losses = store.history(first, "train_loss")
    assert [step for step, _ in losses] == list(range(1, iterations + 1)) and losses[0] != losses[-1]
    rates = [rate for _, rate in store.history(first, "lr")]
    assert rates == sorted(rates, reverse=True) and rates[-1] == pytest.approx(0)  # no warm-up, so only the cosine
    assert [step for step, _ in store.history(first, "val_mean_auc")] == [1, 2, 3]


@pytest.mark.slow
def test_only_what_a_user_sets_is_a_parameter(store: Store) -> None:
    parameters = store.runs()[2].data.params
    assert parameters["class_names"].startswith("['Atelectasis'")
    assert not {"tracking_uri", "run", "imports", "network", "train::trainer"} & set(parameters)


@pytest.mark.slow
def test_the_command_line_needs_the_plain_words_only_and_asks_no_other_machine(nih: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH.format(log=str(tmp_path / "asked.txt")))
    outside = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "PYTEST", "CI"))}
    done = _train(nih, tmp_path / "out", outside | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, done.stderr[-2000:]
    (run,) = Store(tmp_path / "out" / "mlruns.db").runs()
    assert run.info.status == "FINISHED" and "val_mean_auc" in run.data.metrics
    assert not (tmp_path / "asked.txt").exists()


@pytest.mark.slow
def test_without_mlflow_one_sentence_says_what_to_install(nih: Path, tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "__init__.py").write_text("raise ModuleNotFoundError(\"No module named 'mlflow'\")")
    done = _train(nih, tmp_path / "out", os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "pip install mlflow" in done.stderr.strip().splitlines()[-1]


def _train(data: Path, output: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    """vit_cxr14's training as typed, with `--tracking mlflow`."""
    bundle = ROOT / "bundles" / "vit_cxr14"
    own = {"dataset_dir": data, "output_dir": output, "ckpt_dir": output, "cache_dir": output / "cache"}
    own |= TINY["vit_cxr14"] | {"num_workers": 0, "max_epochs": 1, "warmup_epochs": 0, "tracking": "mlflow"}
    words = [word for key, value in own.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file"]
    command += [str(bundle / "configs/train.json"), "--bundle_root", str(bundle), *words]
    return subprocess.run(command, cwd=output.parent, env=environment, capture_output=True, text=True, check=False)
