"""Why segmenting a CT takes what it takes: one window of ViT-B UNETR in the network, and where its time goes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from custom.inferers import has_bfloat16
from custom.runtimes import example, keep_bfloat16

from .configs import CPU, bundle_config
from .measure import Measured, Row, absent, alone, compare, take_turns
from .runtimes import milliseconds
from .segment import VIT_B

THEIRS = "the same network in float32, as the zoo's config runs it on a CPU"
NAME = "segment a CT: one window of 96^3 in the network"
KINDS = {"convolutions": ("conv",), "products of matrices": ("addmm", "bmm", "aten::mm")}


def measure(pairs: int) -> list[Row]:
    """Milliseconds of a window, and the shares of the operations that take them."""
    if not has_bfloat16("cpu"):
        return [absent(NAME, "this CPU has no bfloat16")]
    networks = [
        bundle_config("unetr_btcv", "inference", **CPU, **VIT_B).get_parsed_content("network_def") for _ in "ab"
    ]
    single, half = networks[0].eval(), keep_bfloat16(networks[1].eval())
    image = example(single, 1)
    ways: dict[str, Callable[[], Measured]] = {
        "ours": lambda: milliseconds(lambda: in_bfloat16(half, image)),
        THEIRS: lambda: milliseconds(lambda: single(image)),
    }
    measured = take_turns(ways, pairs)
    shares = time_shares(lambda: in_bfloat16(half, image))
    rows = [compare(f"{NAME}: time", "ms", "ms", measured, THEIRS)]
    return rows + [alone(f"{NAME}: time in {kind}", "%", [share]) for kind, share in shares.items()]


def in_bfloat16(network: nn.Module, image: Tensor) -> Tensor:
    """As the bundle's inferer calls it."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return network(image)


@torch.inference_mode()
def time_shares(call: Callable[[], Tensor]) -> dict[str, float]:
    """Per cent of the CPU time, over three calls, that each kind of operation takes by itself."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(3):
            call()
    own = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    total = sum(own.values())
    shares = {
        kind: 100 * sum(own[key] for key in own if any(w in key for w in words)) / total
        for kind, words in KINDS.items()
    }
    return shares | {"everything else": 100 - sum(shares.values())}
