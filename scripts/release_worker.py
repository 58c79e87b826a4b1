"""What a release check does in a process of its own, with the packed bundle's `custom` and nothing of this project.

Started as a file, `python -P release_worker.py JOBS RESULT`, so that the project is not on the search path. JOBS is a
JSON list, RESULT becomes the JSON list of sentences about what went wrong.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, onnx_export, run
from torch import Tensor, nn

Job = dict[str, Any]
Compute = Callable[[Tensor], Tensor]
BATCH = 3  # images that an exported network takes at once, and one at a time
TOLERANCE = 1e-4  # of the largest output; measured: below 1e-5


def properties(job: Job) -> Iterator[str]:
    """Every property MONAI knows has its name, every referenced object can be made."""
    workflow = ConfigWorkflow(job["files"], workflow_type=job["kind"], **job["options"])
    workflow.initialize()
    for name in workflow.check_properties() or []:
        yield f"MONAI's property {name} is missing or misnamed; give it the name that monai.bundle.properties lists"
    workflow.finalize()


def run_configs(job: Job) -> Iterator[str]:
    """The configs run to their end, with the bundle's own code."""
    run(config_file=job["files"], **job["options"])
    home, used = Path(job["options"]["bundle_root"]).resolve(), Path(sys.modules["custom"].__file__).resolve()
    if home not in used.parents:
        yield f"{used} ran instead of the bundle's own code; run it where nothing else is named custom"


def export(job: Job) -> Iterator[str]:
    """Both formats are written by the README's commands, and compute what PyTorch computes, for every batch size."""
    network, images = network_and_images()
    formats = {"ckpt_export": ("model.ts", torchscript), "onnx_export": ("model.onnx", onnx)}
    for command, (name, compute) in formats.items():
        path = str(Path(job["output"]) / name)
        try:
            documented(command, path)
        except (Exception, SystemExit) as error:
            yield f"{command} fails ({first_line(error)}); change the code, or the command in docs/README.md"
            continue
        yield from differences(command, partial(compute, path), network, images)


def documented(command: str, path: str) -> None:
    """Do what the command of docs/README.md that exports to a file does, with `path` for the file."""
    readme = Path("docs/README.md").read_text(encoding="utf-8")
    line = re.search(rf"^python -m monai\.bundle {command} .*--filepath .*$", readme, re.MULTILINE)
    if not line:
        raise LookupError(f"docs/README.md has no command python -m monai.bundle {command} with --filepath")
    words = shlex.split(line[0])[3:]
    words[words.index("--filepath") + 1] = path
    fire.Fire({"ckpt_export": ckpt_export, "onnx_export": onnx_export}, command=words)  # as monai.bundle itself does


def differences(command: str, compute: Compute, network: nn.Module, images: Tensor) -> Iterator[str]:
    """The first fault of an exported network, for one image and for all of `images`."""
    for size in (1, len(images)):
        image = images[:size]
        torch.manual_seed(0)
        try:
            found = compute(image)
            difference = float((found - expected(network, image, found)).abs().max() / found.abs().max())
        except Exception as error:
            reason = first_line(error)
            yield f"the file of {command} fails for a batch of {size} ({reason}); correct the command in docs/README.md"
            return
        if not difference <= TOLERANCE:
            yield f"the file of {command} differs from PyTorch by {difference:.2g} of the largest output; make it exact"
            return


def network_and_images() -> tuple[nn.Module, Tensor]:
    """The shipped network and a batch of random images of the shape that the metadata promise."""
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser.read_meta("configs/metadata.json")
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load("models/model.pt", weights_only=True)["model"])
    promised = parser["_meta_"]["network_data_format"]["inputs"]["image"]
    shape = [BATCH, promised["num_channels"], *promised["spatial_shape"]]
    return network, torch.rand(shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def expected(network: nn.Module, image: Tensor, found: Tensor) -> Tensor:
    """What PyTorch computes of `image`; of a masked autoencoder with the masks that can be read off `found`.

    An exported masked autoencoder draws its own masks. It returns visible patches as they are.
    """
    from custom.networks import MAE
    from custom.networks.tokens import patchify

    if not isinstance(network, MAE):
        return network(image)
    changed = (patchify(image, network.patch_size) != patchify(found, network.patch_size)).any(dim=2)
    keep, hidden = (chosen.nonzero()[:, 1].reshape(len(image), -1) for chosen in (~changed, changed))
    return network.reconstruct(image, network.predict(image, keep, hidden)).image


@torch.no_grad()
def torchscript(path: str, image: Tensor) -> Tensor:
    """The output of a TorchScript file."""
    return torch.jit.load(path).eval()(image)


def onnx(path: str, image: Tensor) -> Tensor:
    """The output of an ONNX file on a CPU."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read at the import
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image.numpy()})[0])


def first_line(error: BaseException) -> str:
    """Type and first line of the error that caused `error`."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"


TASKS: dict[str, Callable[[Job], Iterator[str]]] = {"properties": properties, "run": run_configs, "export": export}


def main(jobs: str, result: str) -> None:
    """Do every job; an error ends the job, not the others."""
    faults = []
    for job in json.loads(Path(jobs).read_text()):
        os.environ.update(job.get("environment", {}))
        if job["task"] != "run":  # which finds the bundle's code by itself; the rest is documented to be run from here
            sys.path.insert(0, str(Path.cwd()))
        try:
            faults += [f"{job['title']}: {fault}" for fault in TASKS[job["task"]](job)]
        except Exception as error:
            logging.exception(job["title"])
            faults.append(f"{job['title']}: {first_line(error)}")
    Path(result).write_text(json.dumps(faults))


if __name__ == "__main__":
    main(*sys.argv[1:])
