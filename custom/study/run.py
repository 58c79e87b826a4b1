"""One command of a comparison, and the model that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Run:
    """One command. name: its folder. work: FLOPs, about, for the time left. steps: iterations it trains for."""

    name: str
    bundle: Path
    configs: tuple[str, ...]
    overrides: Mapping[str, Any] = field(hash=False)
    work: float = 0.0
    steps: int = 0
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """pretraining, fine_tuning or evaluation."""
        return self.name.partition("/")[0]


class Setup(NamedTuple):
    """What identifies a fine-tuned model but for its learning rate. cases: 0 for all."""

    arm: str
    cases: int
    seed: int

    def __str__(self) -> str:
        return f"{self.arm}_{self.cases or 'all'}_seed{self.seed}"
