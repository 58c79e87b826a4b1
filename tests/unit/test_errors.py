"""What a person sees on the command line when something is wrong with their input."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from monai.handlers import MLFlowHandler
from monai.utils import OptionalImportError, optional_import
from torch._utils import ExceptionWrapper  # what workers of torch's loaders send

from custom.errors import InputError, find_input_error, sentence_of

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A script of its own in which uncaught InputErrors are explained."""
    head = "from custom.errors import InputError, explain_errors\nexplain_errors()\n"
    return subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True)


def test_a_folder_that_may_not_be_written_is_one_sentence_whatever_library_met_it() -> None:
    try:
        try:
            raise PermissionError(errno.EROFS, "Read-only file system", "/srv/out")
        except OSError as error:
            raise RuntimeError("Failed to instantiate SummaryWriter") from error
    except RuntimeError as error:
        assert sentence_of(error) == (
            "/srv/out cannot be used: Read-only file system; change its rights or choose another"
        )
    assert sentence_of(FileNotFoundError(errno.ENOENT, "No such file", "x")) is None  # a fault of ours, as far as known


FAULT = "try:\n    raise InputError('no such folder')\nexcept ValueError as error:\n    "


@pytest.mark.parametrize(
    "code",
    [
        "raise InputError('no such folder')",
        FAULT + "raise RuntimeError('wrapped') from error",
        FAULT + "raise RuntimeError('while handling')",
        "raise RuntimeError('Original Traceback\\n  File\\ncustom.errors.InputError: no such folder\\n')",
    ],
    ids=["bare", "wrapped", "while handling", "text of a worker"],
)  # fmt: skip
def test_a_fault_of_the_input_prints_its_sentence_alone_and_fails(code: str) -> None:
    done = run(code)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "\nERROR: no such folder\n"


def test_every_other_error_keeps_its_traceback() -> None:
    done = run("def inner():\n    raise ValueError('a bug')\ninner()")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr and "ValueError: a bug" in done.stderr
    assert "in inner" in done.stderr and "ERROR:" not in done.stderr


def from_worker(error: Exception) -> Exception:
    """What a loader's process raises when its worker has raised `error`: the same kind, with a printed traceback."""
    try:
        try:
            raise InputError("not this sentence")
        except InputError as first:
            raise error from first
    except type(error):
        sent = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error)) as caught:
        sent.reraise()
    return caught.value


def test_a_fault_found_by_a_loaders_worker_is_the_same_sentence() -> None:
    error = from_worker(InputError("img1.nii.gz is truncated"))
    assert isinstance(error, InputError) and "Original Traceback" in str(error)
    assert sentence_of(error) == "img1.nii.gz is truncated"
    wrapped = RuntimeError("applying transform")
    wrapped.__cause__ = error
    assert sentence_of(wrapped) == "img1.nii.gz is truncated"


def test_a_fault_that_a_transform_wrapped_in_a_worker_is_the_same_sentence() -> None:
    wrapped = RuntimeError("applying transform")
    wrapped.__cause__ = InputError("img1.nii.gz is truncated")
    with pytest.raises(RuntimeError) as caught:
        try:
            raise wrapped
        except RuntimeError:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()
    sent = RuntimeError(str(caught.value))  # another process has the text only
    assert sentence_of(sent) == "img1.nii.gz is truncated"


def test_the_first_input_error_of_a_chain_is_found_and_a_circle_ends() -> None:
    outer, inner = RuntimeError("outer"), InputError("inner")
    outer.__cause__ = inner
    inner.__cause__ = outer
    assert find_input_error(outer) is inner
    alone = RuntimeError("alone")
    alone.__context__ = KeyError("other")
    alone.__context__.__context__ = alone
    assert find_input_error(alone) is None and sentence_of(alone) is None


def test_a_sentence_from_a_worker_is_found_behind_other_errors() -> None:
    """A loader's worker sends its error as text, and MONAI wraps that again."""
    try:
        try:
            raise RuntimeError(
                "Caught RuntimeError in worker 0.\nTraceback\ncustom.errors.InputError: a.png is damaged"
            )
        except RuntimeError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression") from error
    except RuntimeError as error:
        assert sentence_of(error) == "a.png is damaged"


def test_a_tracking_store_that_mlflow_cannot_open_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ValueError) as refused:
        MLFlowHandler(tracking_uri="/data/mlruns")
    assert "'/data/mlruns'" in sentence_of(refused.value) and "sqlite:///" in sentence_of(refused.value)


@pytest.fixture
def mlflow_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], BaseException]:
    """What MONAI raises when it uses an mlflow with this __init__.py, or none at all."""

    def use(content: str | None) -> BaseException:
        for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
            monkeypatch.delitem(sys.modules, name)
        if content is not None:
            (tmp_path / "mlflow").mkdir()
            (tmp_path / "mlflow" / "__init__.py").write_text(content)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        missing, found = optional_import("mlflow", descriptor="Please install mlflow before using MLFlowHandler.")
        assert not found
        with pytest.raises(OptionalImportError) as refused:
            missing.MlflowClient()
        return refused.value

    return use


def test_a_missing_mlflow_is_asked_for(mlflow_of: Callable[[str | None], BaseException]) -> None:
    wrapped = RuntimeError("Failed to instantiate")
    wrapped.__cause__ = mlflow_of(None)
    assert "pip install mlflow" in sentence_of(wrapped)
    assert "pip install mlflow" in sentence_of(ModuleNotFoundError("No module named 'mlflow'", name="mlflow"))


@pytest.mark.parametrize(
    "content",
    [
        "import nowhere",
        "import mlflow.nowhere",
        "from mlflow import nowhere",
        "raise ImportError('/opt/mlflow/lib.so: cannot open shared object file')",
    ],
)
def test_a_broken_mlflow_keeps_its_traceback(content: str, mlflow_of: Callable[[str | None], BaseException]) -> None:
    error = mlflow_of(content)
    assert "mlflow" in str(error) and sentence_of(error) is None


def test_a_failed_import_below_a_folder_called_mlflow_keeps_its_traceback() -> None:
    assert sentence_of(ImportError("/home/me/mlflow/torch/lib.so: undefined symbol", path="/home/me/mlflow")) is None
