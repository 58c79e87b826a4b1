"""The property of every fuzz test: any input ends in success or one sentence, soon, in little memory. Linux only.

Soon is in CPU time; what waits for ever is ended by pytest-timeout.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis.strategies import SearchStrategy

from custom.errors import chain_of, lacks_memory, sentence_of

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
LONGER = 20  # times as many inputs, and other ones each time
SECONDS = 5  # of CPU time an input: elapsed time would also count what else the machine does
MEMORY = 3 * 2**30  # bytes beyond what the process has, which is less than 1 GiB
LONGEST = 700  # characters of a sentence


class TooSlow(BaseException):
    """Not an Exception, so that nothing takes it for a fault of the file."""


def fuzz(inputs: int, strategy: SearchStrategy[Any], act: Callable[[Any], object]) -> None:
    """Assert the property for at least `inputs` inputs: the same ones every time, but for HYPOTHESIS_PROFILE=soak."""
    inputs *= LONGER if SOAK else 1
    seen = 0

    @settings(
        max_examples=inputs,
        derandomize=not SOAK,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def check(value: Any) -> None:
        nonlocal seen
        seen += 1
        note(endures(lambda: act(value)) or "accepted")

    check()
    assert seen >= inputs, f"only {seen} of {inputs} inputs were tried"


def endures(act: Callable[[], object]) -> str | None:
    """The sentence that `act` ends in, None for success; all else passes through."""
    try:
        with limits():
            act()
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or any(map(lacks_memory, chain_of(error))):
            raise
        assert sentence.strip() and "\n" not in sentence and not sentence.endswith(".")
        assert len(sentence) <= LONGEST and "Traceback" not in sentence
        return sentence
    return None


@contextmanager
def limits() -> Iterator[None]:
    """Bounds on CPU time and, by the kernel, on memory; what exceeds them fails at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow(f"more than {SECONDS} s of CPU time")

    pages = int(Path("/proc/self/statm").read_text().split()[5])  # what RLIMIT_DATA counts
    before = resource.getrlimit(resource.RLIMIT_DATA)
    handler = signal.signal(signal.SIGVTALRM, stop)  # SIGALRM is pytest-timeout's
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + MEMORY, before[1]))
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, handler)
        resource.setrlimit(resource.RLIMIT_DATA, before)
