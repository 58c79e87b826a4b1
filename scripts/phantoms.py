"""Write synthetic patients to disk: python -m scripts.phantoms ct --cases 30 --out DIR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import fire

from custom.data.phantoms.ct import SHAPE, SPACING, write_btcv
from custom.errors import explain_errors


def ct(
    out: str,
    cases: int = 30,
    seed: int = 0,
    shape: Sequence[int] = SHAPE,
    spacing: Sequence[float] = SPACING,
    workers: int = 2,
) -> None:
    """Abdominal CT with 13 organs in BTCV's layout and numbering.

    Args:
        out: folder to write imagesTr and labelsTr into.
        cases: number of patients; 30 carry BTCV's own numbers.
        seed: population.
        shape: voxels along each axis.
        spacing: voxel size in mm.
        workers: processes.
    """
    write_btcv(Path(out), cases, seed=seed, shape=shape, spacing=spacing, workers=workers)


if __name__ == "__main__":
    explain_errors()
    fire.Fire({"ct": ct})
