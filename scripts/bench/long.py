"""Peak memory of segmenting scans of 128, 512 and 1024 slices with unetr_btcv, and what a further slice costs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from .measure import Measured, Row, alone, compare
from .segment import SHAPE, THEIRS, baseline, ours, write_ct, write_weights

LENGTHS, BASELINE_LENGTHS = (128, 512, 1024), (64, 128)  # the baseline needs more than 24 GB for 512 slices
SLICE_MIB = SHAPE[0] * SHAPE[1] * (2 + 1) / 2**20  # of the int16 file and of its uint8 labels


def measure(_: int) -> list[Row]:
    """Each length once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = write_weights(folder / "model.pt", {})

        def peak(side: Callable[..., Measured], slices: int) -> float:
            return side(write_ct(folder / "ct.nii.gz", slices), folder / "labels", weights, {})["MiB"]

        peaks = {slices: peak(ours, slices) for slices in LENGTHS}
        growth = {"MiB": (peaks[LENGTHS[-1]] - peaks[LENGTHS[0]]) / (LENGTHS[-1] - LENGTHS[0])}
        short, long = (peak(baseline, slices) for slices in BASELINE_LENGTHS)
        theirs = {"MiB": (long - short) / (BASELINE_LENGTHS[1] - BASELINE_LENGTHS[0])}
    rows = [alone(f"long scans: peak memory, {slices} slices", "MiB", [peaks[slices]]) for slices in LENGTHS]
    pair, goal = [{"ours": growth, THEIRS: theirs}], f"ours < {SLICE_MIB}"
    return [*rows, compare("long scans: memory of a further slice", "MiB", "MiB", pair, THEIRS, goal)]
