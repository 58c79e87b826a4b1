"""What a person sees on the command line when something is wrong with their input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from monai.handlers import MLFlowHandler
from torch._utils import ExceptionWrapper  # what workers of torch's loaders send

from custom.errors import InputError, find_input_error, sentence_of

ROOT = Path(__file__).parents[2]


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A script of its own in which uncaught InputErrors are explained."""
    head = "from custom.errors import InputError, explain_errors\nexplain_errors()\n"
    return subprocess.run([sys.executable, "-c", head + code], cwd=ROOT, capture_output=True, text=True)


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
