"""One run of a bundle in a comparison, and the model that it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

DONE, FAILED = "done.json", "failed.json"  # in the folder of a run that has ended, or has diverged
LOOKS = "looks.json"  # in the folder of a comparison: with what test cases were scored


@dataclass(frozen=True)
class Run:
    """One command: config files of a bundle and overrides. name: its folder. work: FLOPs, about, for the time left."""

    name: str
    bundle: Path
    configs: tuple[str, ...]
    overrides: Mapping[str, Any] = field(hash=False)
    work: float = 0.0
    needs: tuple[str, ...] = ()


class Choice(NamedTuple):
    """What validation chooses for an arm and a number of labelled cases."""

    learning_rate: float
    layer_decay: float

    def __str__(self) -> str:
        return f"rate{self.learning_rate:g}_decay{self.layer_decay:g}"


class Setup(NamedTuple):
    """What identifies a fine-tuned model but for its choice. cases: 0 for all."""

    arm: str
    cases: int
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """What a choice is made for."""
        return self.arm, self.cases

    def __str__(self) -> str:
        return f"{self.arm}_{self.cases or 'all'}_seed{self.seed}"


Choices = Mapping[tuple[str, int], Choice]  # (arm, number of labelled cases) -> what validation chose
