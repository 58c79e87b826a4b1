"""The whole method on generated abdominal CTs, in about eight minutes on two CPU cores: `make demo`.

Generates phantoms, pre-trains on the training images, fine-tunes from scratch and from the pre-trained encoder with the
same recipe, evaluates both on unseen phantoms, segments one CT in its native space, and writes report.html.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import fire
from monai.bundle import run as run_bundle

from custom.data.phantoms.ct import write_btcv
from custom.errors import explain_errors

from .demo_report import Step, read_comparison, write_report

ROOT = Path(__file__).resolve().parent.parent
SHAPE, SPACING = (96, 84, 72), (4.0, 4.0, 4.0)  # phantoms of the demo: voxels, mm
ARMS = {"scratch": "from scratch", "pretrained": "from the pre-trained encoder"}

GEOMETRY: dict[str, Any] = {  # 6 x 6 x 6 patches a crop, as many as in the paper, of a fifth of its volume
    "spacing": [4.0, 4.0, 4.0],
    "img_size": [48, 48, 48],
    "patch_size": 8,
    "hidden_size": 96,
    "num_layers": 4,
    "num_heads": 3,
}
DECODER = {"decoder_hidden_size": 96, "decoder_num_layers": 2, "decoder_num_heads": 3}
PRETRAINING_EPOCHS, FINE_TUNING_EPOCHS = 170, 40  # of 9 and 15 iterations each, at budget 1


def plan(folder: Path, budget: float) -> list[Step]:
    """All runs in order; `budget` scales the number of epochs."""
    data = {"dataset_dir": str(folder / "data"), "cache_dir": str(folder / "cache"), "num_workers": 0}
    epochs, tuning = max(1, round(PRETRAINING_EPOCHS * budget)), max(1, round(FINE_TUNING_EPOCHS * budget))
    encoder, one_ct = str(folder / "pretraining" / "model.pt"), str(folder / "data" / "imagesTr" / "img0001.nii.gz")
    mae, unetr = GEOMETRY | DECODER, GEOMETRY | {"feature_size": 16, "overlap": 0.25}

    schedule = {"max_epochs": epochs, "warmup_epochs": epochs // 20, "learning_rate": 4e-4}
    schedule["monitor_interval"] = max(1, epochs // 10)
    output = {"output_dir": str(folder / "pretraining"), "ckpt_dir": str(folder / "pretraining")}
    steps = [
        Step("Pre-training without labels", "mae_pretrain_ct", ["train"], data | mae | schedule | output),
        Step(
            "Reconstruction of unseen CTs",
            "mae_pretrain_ct",
            ["train", "evaluate"],
            data | mae | {"checkpoint": encoder, "output_dir": str(folder / "pretraining")},
        ),
        Step(
            "Reconstruction of one CT",
            "mae_pretrain_ct",
            ["inference"],
            mae | {"dataset_dir": one_ct, "checkpoint": encoder, "output_dir": str(folder / "pretraining")},
        ),
    ]
    recipe = {"max_epochs": tuning, "warmup_epochs": tuning // 10, "val_interval": max(1, tuning // 8)}
    recipe |= {"batch_size": 1, "num_samples": 1, "learning_rate": 3e-3, "layer_decay": 1.0}
    for arm, words in ARMS.items():
        where = {"output_dir": str(folder / arm), "ckpt_dir": str(folder / arm)}
        weights = {"pretrained_weights": encoder if arm == "pretrained" else ""}
        last = {"checkpoint": str(folder / arm / "last.pt"), "output_dir": str(folder / arm)}
        steps += [
            Step(f"Fine-tuning {words}", "unetr_btcv", ["train"], data | unetr | recipe | where | weights),
            Step(f"Evaluation {words}", "unetr_btcv", ["train", "evaluate"], data | unetr | last),
        ]
    steps.append(Step("Segmentation of one CT", "unetr_btcv", ["inference"], unetr | {"dataset_dir": one_ct} | last))
    return steps


def run_step(step: Step) -> None:
    """Run a bundle in this process, as its command would, and note how long it took."""
    root = ROOT / "bundles" / step.bundle
    files = [str(root / "configs" / f"{name}.json") for name in step.configs]
    start = time.monotonic()
    run_bundle(config_file=files, bundle_root=str(root), logging_file=False, **step.options)
    step.seconds = time.monotonic() - start


def demo(output_dir: str = "demo", cases: int = 30, budget: float = 1.0, seed: int = 0) -> None:
    """Run everything and write `<output_dir>/report.html`.

    Args:
        output_dir: folder for data, weights, predictions and the report.
        cases: phantoms; BTCV's numbering sends 18 of 30 to training and 12 to testing.
        budget: fraction of the training epochs; 1 takes about seven minutes on two cores.
        seed: of the phantoms and of every run.
    """
    folder = Path(output_dir).resolve()
    for earlier in ("pretraining", *ARMS):
        shutil.rmtree(folder / earlier, ignore_errors=True)
    start = time.monotonic()
    say(f"Generating {cases} abdominal CTs in {folder / 'data'}")
    write_btcv(folder / "data", cases, seed=seed, shape=SHAPE, spacing=SPACING)
    steps = plan(folder, budget)
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.title}")
        step.options["seed"] = seed
        run_step(step)
        say(f"      {step.seconds:.0f} s")
    comparison = read_comparison(folder)
    report = write_report(folder, steps, comparison, time.monotonic() - start)
    say(f"\n{comparison.table()}\n\n{comparison.sentence()}\n\nReport: {report}")


def say(line: str) -> None:
    """One line for the person watching."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    explain_errors()
    logging.disable(logging.INFO)
    fire.Fire(demo)
