"""What a process of a distributed test runs: commands of bundles one after another, watched from inside."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.bundle import run
from monai.engines import IterationEvents
from torch import Tensor

from custom.networks import MAE, UNETR

RANK = os.environ.get("RANK", "0")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class MaskByCrop(MAE):
    """Draws the mask of a crop from the crop itself, so that it is the same whichever process sees it."""

    def mask(self, image: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        seeds = [zlib.crc32(crop.numpy().tobytes()) for crop in image]
        draw = super().mask
        masks = [draw(crop[None], torch.Generator().manual_seed(seed)) for crop, seed in zip(image, seeds, strict=True)]
        return torch.cat([keep for keep, _ in masks]), torch.cat([hidden for _, hidden in masks])


class DoubleUNETR(UNETR):
    """In double precision: in single, kinks and instance norms of few voxels make rounding grow from step to step."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.double()

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.double())


class Recorder:
    """Notes the loss and the whole gradient of every step; first of the handlers, so before gradients are clipped."""

    def __init__(self, folder: str) -> None:
        self.path = Path(folder) / f"steps.{RANK}.pt"
        self.steps: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.note)
        engine.add_event_handler(Events.COMPLETED, lambda _: self.path.write_bytes(pickled(self.steps)))

    def note(self, engine: Engine) -> None:
        trained = [parameter for parameter in engine.network.parameters() if parameter.requires_grad]
        without = [name for name, p in engine.network.named_parameters() if p.requires_grad and p.grad is None]
        gradient = torch.cat([p.grad.flatten() for p in trained if p.grad is not None])
        loss = engine.state.output["loss"].item()
        self.steps.append({"loss": loss, "gradient": gradient, "without": without})


def pickled(content: Any) -> bytes:
    """What torch.save writes of it."""
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


class Kill:
    """Ends the process of rank 1 as a machine does that is switched off, once, at a given step."""

    def __init__(self, folder: str, iteration: int) -> None:
        self.mark, self.iteration = Path(folder) / "killed", iteration

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        if RANK == "1" and engine.state.iteration == self.iteration and not self.mark.exists():
            self.mark.write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)


def note_writes(file: Path) -> None:
    """From now on append to `file` each path that this process opens for writing, links, renames or saves to."""
    notes = file.open("a", buffering=1)

    def note(event: str, values: tuple[Any, ...]) -> None:
        writes = event in ("os.rename", "os.link") or (event == "open" and bool((values[2] or 0) & WRITING))
        if writes and isinstance(values[0], str | bytes | os.PathLike):
            places = values[:1] if event == "open" else values[:2]
            notes.writelines(f"{Path(os.fsdecode(place)).absolute()}\n" for place in places)

    def save(content: Any, path: Any, **options: Any) -> None:  # which opens files in C++, unheard of by hooks
        if isinstance(path, str | os.PathLike):
            notes.write(f"{Path(path).absolute()}\n")
        torch_save(content, path, **options)

    torch_save, torch.save = torch.save, save
    sys.addaudithook(note)


def main() -> None:
    """Run the jobs of the JSON file sys.argv[1], each [config files, bundle]."""
    todo = Path(sys.argv[1])
    note_writes(todo.with_name(f"writes.{RANK}"))
    leave = dist.destroy_process_group
    # Joining once more after leaving hangs, so the finalizers of the configs leave but the groups of single operations.
    dist.destroy_process_group = lambda group=None: group is not None and leave(group)
    for files, bundle in json.loads(todo.read_text()):
        run(config_file=files, bundle_root=bundle)
    if dist.is_initialized():
        leave()


if __name__ == "__main__":
    main()
