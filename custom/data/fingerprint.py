"""A name for a preprocessed volume that changes whenever its files, its transforms or the versions of the code do."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Transform
from monai.utils import ensure_tuple

from .. import __version__
from ..errors import InputError

# State that running a transform changes, as opposed to what was asked of it.
FILES = ("image", "label")
RUN_STATE = {"R", "filenames"}


def fingerprint(case: Mapping[str, Any], preprocessing: Any, dtype: str) -> str:
    """Name of one cache entry (64 hexadecimal digits) from file contents, transforms, `dtype` and versions."""
    content = {
        "files": {key: [file_digest(path) for path in ensure_tuple(case[key])] for key in FILES if key in case},
        "options": {key: str(case[key]) for key in case if key not in FILES},
        "preprocessing": preprocessing,
        "dtype": dtype,
        "versions": [monai.__version__, __version__],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's content; read once per process while its size and time stamp stay the same."""
    try:
        status = Path(path).stat()
        return _file_digest(str(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); correct the path or its permissions") from error


@lru_cache(maxsize=65536)
def _file_digest(path: str, size: int, time_stamp: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(value: Any) -> Any:
    """Plain description (JSON types) of a transform or of one of its parameters, the same in every process.

    A transform is its class and its public attributes, and those private ones that hold transforms themselves; random
    state is left out. A function is its name and its code.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Mapping):
        return {"mapping": sorted([str(describe(key)), describe(item)] for key, item in value.items())}
    if isinstance(value, AbstractSet):
        return {"set": sorted(str(describe(item)) for item in value)}
    if isinstance(value, np.ndarray | torch.Tensor):
        array = np.asarray(value)
        return {"array": [str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [describe(item) for item in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return _describe_function(value) or _describe_object(value)


def _describe_function(value: Any) -> Any:
    """A function by name, code and captured values, a method by its object too; None for anything else."""
    if isinstance(value, partial):
        return {"partial": [describe(value.func), describe(value.args), describe(value.keywords)]}
    if isinstance(value, CodeType):
        return [value.co_code.hex(), describe(value.co_names), describe(value.co_consts)]
    if not hasattr(value, "__qualname__"):
        return None
    captured = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
    parts = [getattr(value, "__code__", None), getattr(value, "__defaults__", None), captured]
    owner = value.__self__ if inspect.ismethod(value) else None
    return [f"{value.__module__}.{value.__qualname__}", describe(parts), describe(owner)]


def _describe_object(value: Any) -> Any:
    """Class and attributes; an object without attributes (dtype, slice, enum, code-free built-in) is its text."""
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator):
        return name
    if not hasattr(value, "__dict__"):
        return [name, str(value)]
    kept = {
        key: item
        for key, item in vars(value).items()
        if key not in RUN_STATE and (not key.startswith("_") or key == "_lazy" or isinstance(item, Transform))
    }
    return [name, describe(kept)]
