"""The whole method on generated images, in seven to ten minutes on two CPU cores: `make demo [BUNDLE=unetr_brats]`.

Generates phantoms, pre-trains on the training images, fine-tunes from scratch and from the pre-trained encoder with the
same recipe, evaluates both on unseen phantoms, segments one image in its native space, and writes report.html.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from monai.bundle import run as run_bundle

from custom.data import datalist
from custom.errors import explain_errors
from custom.files import case_name

from .command_line import run_command_line
from .demo_report import Step, read_comparison, write_report
from .demo_tasks import DECODER, Task, find_task

ROOT = Path(__file__).resolve().parent.parent
ARMS = {"scratch": "from scratch", "pretrained": "from the pre-trained encoder"}


def plan(task: Task, folder: Path, image: str, budget: float) -> list[Step]:
    """All runs in order; `image` is reconstructed and segmented, `budget` scales the number of epochs."""
    data = {"dataset_dir": str(folder / "data"), "cache_dir": str(folder / "cache"), "num_workers": 0}
    pretraining, tuning = (max(1, round(epochs * budget)) for epochs in task.epochs)
    steps = pretraining_steps(task, folder, image, data, pretraining)
    recipe = {"max_epochs": tuning, "warmup_epochs": tuning // 10, "val_interval": max(1, tuning // 8)}
    recipe |= {"batch_size": 1, "num_samples": 1, "learning_rate": 3e-3, "layer_decay": 1.0}
    unetr, encoder = task.geometry | task.unetr, str(folder / "pretraining" / task.encoder)
    for arm, words in ARMS.items():
        where = {"output_dir": str(folder / arm), "ckpt_dir": str(folder / arm)}
        weights = {"pretrained_weights": encoder if arm == "pretrained" else ""}
        last = {"checkpoint": str(folder / arm / "last.pt"), "output_dir": str(folder / arm)}
        steps += [
            Step(f"Fine-tuning {words}", task.bundle, ["train"], data | unetr | recipe | where | weights),
            Step(f"Evaluation {words}", task.bundle, ["train", "evaluate"], data | unetr | last),
        ]
    one = unetr | {"dataset_dir": image} | last
    return [*steps, Step(f"Segmentation of one {task.image}", task.bundle, ["inference"], one)]


def pretraining_steps(task: Task, folder: Path, image: str, data: dict[str, Any], epochs: int) -> list[Step]:
    """Pre-training, and what it reconstructs of images it has never seen."""
    bundle, mae, output = task.pretraining_bundle, task.geometry | DECODER, {"output_dir": str(folder / "pretraining")}
    schedule = {"max_epochs": epochs, "warmup_epochs": epochs // 20, "learning_rate": 4e-4}
    schedule |= {"monitor_interval": max(1, epochs // 10), "ckpt_dir": str(folder / "pretraining")}
    trained = mae | output | {"checkpoint": str(folder / "pretraining" / task.encoder)}
    unseen, one = f"Reconstruction of unseen {task.image}s", f"Reconstruction of one {task.image}"
    return [
        Step("Pre-training without labels", bundle, task.pretrain, data | mae | schedule | output),
        Step(unseen, bundle, task.evaluate, data | trained),
        Step(one, bundle, task.reconstruct, trained | {"dataset_dir": image}),
    ]


def run_step(step: Step) -> None:
    """Run a bundle in this process, as its command would, and note how long it took."""
    root = ROOT / "bundles" / step.bundle
    files = [str(root / "configs" / f"{name}.json") for name in step.configs]
    start = time.monotonic()
    run_bundle(config_file=files, bundle_root=str(root), logging_file=False, **step.options)
    step.seconds = time.monotonic() - start


def demo(
    bundle: str = "unetr_btcv", output_dir: str = "demo", cases: int = 30, budget: float = 1.0, seed: int = 0
) -> None:
    """Run everything and write `<output_dir>/report.html`.

    Args:
        bundle: unetr_btcv (abdominal CT) or unetr_brats (brain MR).
        output_dir: folder for data, weights, predictions and the report.
        cases: phantoms; of 30, BTCV's numbering sends 18 to training and 12 to testing, MSD's first fold 24 and 6.
        budget: fraction of the training epochs; 1 takes about seven minutes on two cores.
        seed: of the phantoms and of every run.
    """
    task, folder = find_task(bundle), Path(output_dir).resolve()
    for earlier in ("pretraining", *ARMS):
        shutil.rmtree(folder / earlier, ignore_errors=True)
    start = time.monotonic()
    say(f"Generating {cases} images ({task.subject}) in {folder / 'data'}")
    task.write(folder / "data", cases, seed=seed)
    image = Path(datalist(folder / "data", "test")[0]["image"])
    steps = plan(task, folder, str(image), budget)
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.title}")
        step.options["seed"] = seed
        run_step(step)
        say(f"      {step.seconds:.0f} s")
    comparison = read_comparison(folder)
    report = write_report(folder, task, case_name(image), steps, comparison, time.monotonic() - start)
    say(f"\n{comparison.table()}\n\n{comparison.sentence()}\n\nReport: {report}")


def say(line: str) -> None:
    """One line for the person watching."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    explain_errors()
    logging.disable(logging.INFO)
    run_command_line(demo)
