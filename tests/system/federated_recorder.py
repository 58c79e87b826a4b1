"""A federation whose server notes all that it sends and receives, and whose processes note the files they open."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nvflare.apis.filter import Filter
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable

# Python runs a module of this name at the start of every process that finds it.
SITECUSTOMIZE = """
import os, sys

folder = os.environ["OPENED_FILES"]

def note(event, values):
    if event == "open" and isinstance(values[0], (str, bytes)) and folder not in os.fsdecode(values[0]):
        file = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(file, os.fsencode(values[0]) + b"\\n")
        os.close(file)

sys.addaudithook(note)
"""


class Recorder(Filter):
    """Write every message of the server's training task to `folder`, and change none."""

    def __init__(self, folder: str, direction: str) -> None:
        super().__init__()
        self.folder, self.direction = folder, direction

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        peer = fl_ctx.get_peer_context()
        site = peer.get_identity_name() if peer else "all"
        name = f"{self.direction}_{site}"
        number = len(list(Path(self.folder).glob(f"{name}_*.pt")))
        torch.save(leaves(shareable), Path(self.folder) / f"{name}_{number}.pt")
        return shareable


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All that a message holds, by its place: tensors, numbers and texts; of anything else what it would print."""
    if isinstance(value, dict):
        return {place: leaf for key, item in value.items() for place, leaf in leaves(item, (*path, str(key))).items()}
    if isinstance(value, torch.Tensor | np.ndarray):
        return {path: torch.as_tensor(value).clone()}
    return {path: value if isinstance(value, int | float | str | None) else repr(value)}


def main() -> None:
    """The command line of scripts.federated, with a recorder at the server's door."""
    from scripts import federated

    averaging = federated.averaging

    def recorded(*arguments: Any) -> Any:
        recipe = averaging(*arguments)
        recipe.add_server_input_filter(Recorder(os.environ["MESSAGES"], "from"), tasks=["train"])
        recipe.add_server_output_filter(Recorder(os.environ["MESSAGES"], "to"), tasks=["train"])
        return recipe

    federated.averaging = recorded
    sys.argv[0] = "scripts.federated"
    federated.run_command_line(federated.federated)
