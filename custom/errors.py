"""One kind of error for everything a user can cause, and one sentence for it on the command line."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from types import TracebackType

LONGEST = 600  # characters of a sentence: it may quote what a file holds, or what a library says of it
# What a disk or its rights forbid, and what to do about it.
DENIED = dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its rights")
DENIED |= dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free disk space")
DENIED |= {errno.ENAMETOOLONG: "shorten its name", errno.ENOTDIR: "correct its path"}


class InputError(ValueError):
    """A fault in files, folders, weights or parameters. Its message is one sentence: what, where, what to change."""


class DivergedError(InputError):
    """Of a training: its loss, weights or predictions are no numbers any more."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str, prefix: str = "") -> str:
    """A question for the known name that resembles a mistyped one; where none does, `otherwise`."""
    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {prefix}{near[0]}?" if near else otherwise


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and what caused it, back to the first cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def find_input_error(error: BaseException | None) -> InputError | None:
    """The first InputError along the chain of causes of `error`, or None."""
    return next((link for link in chain_of(error) if isinstance(link, InputError)), None)


def sentence_of(error: BaseException) -> str | None:
    """The sentence of the InputError behind `error`, on one line, or None; from a worker process it arrives as text.

    MONAI's own errors about `--tracking mlflow` count as well; an mlflow that is there but broken keeps its traceback.
    """
    sentence = _sentence_of(error)
    return None if sentence is None else on_one_line(sentence)


def on_one_line(text: str) -> str:
    """Printable text without line breaks, its middle left out where it is long."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    text = " ".join(plain.split()).removesuffix(".")
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"


def lacks_memory(error: BaseException) -> bool:
    """Whether Python, numpy or torch could not have the memory that they asked for."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error))


def _sentence_of(error: BaseException) -> str | None:
    for link in chain_of(error):
        if isinstance(link, KeyboardInterrupt):
            return "interrupted; a training goes on from what it saved last with the same command and --resume true"
        if lacks_memory(link):
            wanted = str(link) or type(link).__name__
            return f"there is not enough memory ({wanted}); close other programs, or use smaller images or batches"
        if isinstance(link, ImportError) and "No module named 'mlflow'" in str(link).partition("\n")[0]:
            return "--tracking mlflow needs the package mlflow; install it (pip install mlflow) or leave --tracking out"
        if isinstance(link, ValueError) and "tracking_uri=" in str(link):
            return str(link)
        from_worker = re.findall(r"InputError: (.*)", str(link))  # the last line of a printed traceback
        if from_worker:
            return from_worker[-1]
    cause = find_input_error(error)
    denied = [link for link in chain_of(error) if isinstance(link, OSError) and link.errno in DENIED and link.filename]
    if cause is None and denied:
        reason, remedy = denied[0].strerror, DENIED[denied[0].errno]
        return f"{os.fsdecode(denied[0].filename)} cannot be used: {reason}; {remedy} or choose another"
    return None if cause is None else str(cause)


def explain_errors() -> None:
    """Print an uncaught InputError as its sentence alone, also when a library wrapped it; the exit status stays 1.

    Called by commands alone (of configs by `options.check_command_line`), so that an import never changes anything.
    """
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sentence = sentence_of(error)
        if sentence is None:
            previous(kind, error, trace)
        else:
            sys.stderr.write(f"\nERROR: {sentence}\n")

    sys.excepthook = hook
