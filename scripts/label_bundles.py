"""Bundles as MONAI Label needs them: `python -m scripts.label_bundles APP/model` puts them into an app.

MONAI Label reads a bundle's task from its folder's name, and names labels by the channels of the network's output.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.errors import InputError, explain_errors

from .bundle_files import copy_bundle
from .command_line import run_command_line

ROOT = Path(__file__).resolve().parent.parent
BUNDLES = ("unetr_btcv", "unetr_brats", "vit_cxr14", "mae_pretrain_ct")
OTHER_TASKS = ("deepedit", "deepgrow", "detection")  # of which MONAI Label thinks where a name contains the word
RECORD = "made_from.json"  # hashes of the source's weights and configs, in the copy


def add_bundles(models: str | Path, bundles: str | Sequence[str] = ()) -> list[str]:
    """Copy bundles into the folder `models` of an app; returns their names there.

    Args:
        models: made when missing.
        bundles: folders of bundles, a list or with commas; without it, those of this collection.
    """
    folders = bundles.split(",") if isinstance(bundles, str) else bundles  # fire makes a tuple of plain words
    sources = [Path(folder) for folder in folders if folder] or [ROOT / "bundles" / name for name in BUNDLES]
    return [add_bundle(source, Path(models)) for source in sources]


def add_bundle(source: Path, models: Path) -> str:
    """Copy one, links resolved; weights that were trained there stay, but never under other configs.

    Raises:
        InputError: no bundle, a name that MONAI Label misreads, a folder in the way that is no such copy, or weights
            trained in a copy of what has changed since.
    """
    if not (source / "configs" / "metadata.json").is_file():
        raise InputError(f"{source} is no bundle, it has no configs/metadata.json; correct the path")
    pred = json.loads((source / "configs" / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    target = models / name_for_label(source.resolve().name, pred["format"])
    hashes = hashes_of(source)
    if target.exists() and not (target / RECORD).is_file():
        raise InputError(f"{target} was not made by this command and would be replaced; move it away first")
    if is_trained(target):
        if json.loads((target / RECORD).read_text()) != hashes:
            raise InputError(
                f"{target} holds weights that were trained there, and {source} has changed since; move it away first"
            )
        copy_bundle(source, target, left_out=["models", "configs"])
        return target.name
    unfinished = target.with_name(f".{target.name}")  # an interrupted copy is never taken for a bundle
    shutil.rmtree(unfinished, ignore_errors=True)
    copy_bundle(source, unfinished)
    adapt(unfinished / "configs", pred["format"])
    (unfinished / RECORD).write_text(json.dumps(hashes, indent=1))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)
    return target.name


def name_for_label(name: str, output_format: str) -> str:
    """The folder's name, such that MONAI Label understands it: with the task in it where it would guess another."""
    if any(task in name.lower() for task in OTHER_TASKS):
        raise InputError(f"MONAI Label takes a bundle called {name} for another task; rename its folder")
    guess = "classes" if "classification" in name.lower() and "segmentation" not in name.lower() else "segmentation"
    if guess == output_format or output_format not in ("classes", "segmentation"):
        return name
    return f"{name}_{'classification' if output_format == 'classes' else 'segmentation'}"


def hashes_of(bundle: Path) -> dict[str, str]:
    """File -> sha256 of the weights and configs."""
    files = [*bundle.glob("models/*.pt"), *bundle.glob("configs/*.json")]
    return {
        path.relative_to(bundle).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


def is_trained(target: Path) -> bool:
    """Whether the copy's weights are no longer those that it was made with."""
    if not target.exists():
        return False
    recorded = json.loads((target / RECORD).read_text())
    return any(recorded.get(name) != value for name, value in hashes_of(target).items() if name.endswith(".pt"))


def adapt(configs: Path, output_format: str) -> None:
    """Leave out what MONAI Label cannot use, and say what it asks for."""
    if output_format == "classes":
        (configs / "train.json").unlink()  # it has no labels to train a classifier on
    elif output_format != "segmentation":
        (configs / "inference.json").unlink()  # a reconstruction would be listed as a segmentation
        change(configs / "train.json", continue_pretraining)
    change(configs / "metadata.json", name_labels)


def change(path: Path, edit: Any) -> None:
    """Apply `edit` to a JSON file, if it exists."""
    if path.is_file():
        content = json.loads(path.read_text())
        edit(content)
        path.write_text(json.dumps(content, indent=4) + "\n")


def continue_pretraining(train: dict[str, Any]) -> None:
    """Begin with the weights in models/, and have a place for the validation cases that MONAI Label sets.

    MONAI Label loads them into `network`, which here has the loss around the masked autoencoder and other names.
    """
    weights = {"load_path": "$@bundle_root + '/models/model.pt'", "load_dict": {"model": "$@network_def"}}
    train["train"]["handlers"].insert(0, {"_target_": "CheckpointLoader"} | weights)
    train["validate"] = {"dataset": {"data": []}}  # pre-training has no use for them


def name_labels(metadata: dict[str, Any]) -> None:
    """The names of the label map that is written, where its numbers are not the network's channels."""
    formats = metadata["network_data_format"]
    if "post_processed_outputs" in formats:
        formats["outputs"]["pred"]["channel_def"] = formats["post_processed_outputs"]["pred"]["channel_def"]


if __name__ == "__main__":
    explain_errors()
    run_command_line(add_bundles)
