"""What the demo runs on: one entry a task, small enough for ten minutes on two cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.mr import write_msd
from custom.errors import InputError


@dataclass(frozen=True)
class Task:
    """A bundle, the one that pre-trains its encoder, and the options that make both small.

    pretrain, reconstruct, evaluate: config files of the pre-training bundle. encoder: the weights it writes.
    geometry: options of every run. unetr: options of fine-tuning, evaluation and segmentation. scoring: how what is
    missed counts, for the report. epochs: of pre-training and of fine-tuning at budget 1.
    """

    bundle: str
    subject: str
    image: str
    write: Callable[..., None]
    pretraining_bundle: str
    pretrain: list[str]
    evaluate: list[str]
    reconstruct: list[str]
    encoder: str
    geometry: dict[str, Any]
    unetr: dict[str, Any]
    scoring: str
    epochs: tuple[int, int]


SMALL: dict[str, Any] = {"hidden_size": 96, "num_layers": 4, "num_heads": 3}
DECODER = {"decoder_hidden_size": 96, "decoder_num_layers": 2, "decoder_num_heads": 3}
TASKS = {
    "unetr_btcv": Task(
        bundle="unetr_btcv",
        subject="abdominal CT",
        image="CT",
        write=partial(write_btcv, shape=(96, 84, 72), spacing=(4.0, 4.0, 4.0)),
        pretraining_bundle="mae_pretrain_ct",
        pretrain=["train"],
        evaluate=["train", "evaluate"],
        reconstruct=["inference"],
        encoder="model.pt",
        # 6 x 6 x 6 patches a crop, as many as in the paper, of a fifth of its volume
        geometry=SMALL | {"spacing": [4.0, 4.0, 4.0], "img_size": [48, 48, 48], "patch_size": 8},
        unetr={"feature_size": 16, "overlap": 0.25},
        scoring="An organ that a model misses counts as Dice 0. HD95, and its mean, are over the organs and cases that "
        "both models found.",
        epochs=(170, 40),
    ),
    "unetr_brats": Task(
        bundle="unetr_brats",
        subject="four-contrast brain MR",
        image="MR",
        write=partial(write_msd, shape=(48, 58, 48), spacing=(3.2, 3.2, 3.2)),
        pretraining_bundle="unetr_brats",
        pretrain=["train", "pretrain"],
        evaluate=["train", "pretrain", "pretrain_evaluate"],
        reconstruct=["inference", "reconstruct"],
        encoder="pretrained.pt",
        # 8 x 8 x 8 patches a crop, as many as in the paper
        geometry=SMALL | {"spacing": [3.2, 3.2, 3.2], "img_size": [32, 32, 32], "patch_size": 4},
        unetr={"feature_size": 16, "overlap": 0.25},
        scoring="As BraTS scores: a region that is missed, or predicted where there is none, counts as Dice 0 and "
        "HD95 373.13 mm; one that is absent and not predicted as Dice 1 and HD95 0.",
        epochs=(100, 40),
    ),
}


def find_task(bundle: str) -> Task:
    """The task of a bundle; InputError for one that has no demo."""
    if bundle not in TASKS:
        raise InputError(f"there is no demo for bundle {bundle!r}; set BUNDLE to one of {', '.join(TASKS)}")
    return TASKS[bundle]
