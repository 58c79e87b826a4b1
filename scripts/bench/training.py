"""Steps of training, timed: what the rows of the networks share."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

from torch import Tensor
from torch.optim import Optimizer

from .measure import Measured


def timed_steps(loss: Callable[[], Tensor], optimizer: Optimizer, repeats: int = 3) -> Measured:
    """Median seconds of a step, "s", and of its parts, after a step to warm up.

    Gradients are set to zero in place, as MONAI's SupervisedTrainer does unless told otherwise.
    """
    steps = [timed_step(loss, optimizer) for _ in range(repeats + 1)][1:]
    return {part: median(step[part] for step in steps) for part in steps[0]}


def timed_step(loss: Callable[[], Tensor], optimizer: Optimizer) -> Measured:
    """Seconds of one step, of its forward pass with the loss, of its backward pass and of its update."""
    times = [time.perf_counter()]
    optimizer.zero_grad(set_to_none=False)
    value = loss()
    times.append(time.perf_counter())
    value.backward()
    times.append(time.perf_counter())
    optimizer.step()
    times.append(time.perf_counter())
    forward, backward, update = (after - before for before, after in pairwise(times))
    return {"s": times[-1] - times[0], "forward s": forward, "backward s": backward, "update s": update}
