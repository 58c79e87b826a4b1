"""Convert weights between this project, MONAI and the published code: python -m scripts.convert SRC DST --to monai."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from custom.checkpoints import write_checkpoint
from custom.convert import read_foreign, to_custom
from custom.errors import InputError, explain_errors
from custom.export import to_monai, to_selfmedmae

from .command_line import run_command_line

TARGETS = {"custom": dict, "monai": to_monai, "selfmedmae": to_selfmedmae}


def convert(src: str, dst: str, to: str = "custom", grid: Sequence[int] | None = None) -> None:
    """Read weights of any known format and write them in another.

    Args:
        src: a checkpoint; its format is recognised.
        dst: file to write, as {"model": state_dict}, for selfmedmae as {"state_dict": state_dict}.
        to: custom, monai or selfmedmae.
        grid: patches per axis, where they form no square or cube and the weights do not tell.
    """
    if to not in TARGETS:
        raise InputError(f"target {to!r} is unknown; use one of {', '.join(TARGETS)}")
    weights = TARGETS[to](to_custom(read_foreign(src), grid))
    write_checkpoint({"state_dict" if to == "selfmedmae" else "model": weights}, dst)
    logging.info(f"{len(weights)} tensors in {dst}")


if __name__ == "__main__":
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_command_line(convert)
