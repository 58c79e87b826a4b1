"""`python -m monai.bundle run` of inference, from the start of the process to the first window in the network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser

from custom.data.phantoms.ct import generate_ct

from .measure import ROOT, Measured, Row, alone, compare, environment, take_turns

SHAPE, SPACING = (128, 128, 48), (2.5, 2.5, 4.0)
OURS = ROOT / "bundles" / "unetr_btcv" / "configs" / "inference.json"
ZOO = ROOT / "scripts" / "bench" / "zoo" / "inference.json"
THEIRS = "MONAI's parts as in the zoo, UNet of the zoo's size"


def measure(pairs: int) -> list[Row]:
    """Seconds to the first window of both, and of importing MONAI alone, which neither can avoid."""
    with tempfile.TemporaryDirectory() as folder:
        ct, weights = case(Path(folder))
        bundle = OURS.parents[1]

        def ours() -> Measured:
            found = seconds_to_first_window(OURS, "@predictor", folder, bundle_root=str(bundle), dataset_dir=ct)
            return found | {"import s": seconds_of_import("monai.bundle")}

        def baseline() -> Measured:
            return seconds_to_first_window(ZOO, "@network", folder, checkpoint=weights, dataset_dir=ct)

        measured = take_turns({"ours": ours, THEIRS: baseline}, pairs)
    imports = [sides["ours"]["import s"] for sides in measured]
    return [
        compare("start of inference to the first window", "s", "s", measured, THEIRS, "times >= 0.91"),
        alone("of which, in ours and MONAI's alike, the import of monai.bundle", "s", imports),
    ]


def case(folder: Path) -> tuple[str, str]:
    """A small CT on disk, and random weights of the baseline's network in the form that CheckpointLoader reads."""
    ct, weights = folder / "ct.nii.gz", folder / "zoo.pt"
    nib.save(nib.Nifti1Image(generate_ct(0, 0, SHAPE, SPACING)[0], np.diag([*SPACING, 1.0])), ct)
    parser = ConfigParser()
    parser.read_config(str(ZOO))
    torch.save({"model": parser.get_parsed_content("network").state_dict()}, weights)
    return str(ct), str(weights)


def seconds_to_first_window(config: Path, network: str, folder: str, **options: str) -> Measured:
    """Run a config whose network, the reference `network`, ends the process when it is first called."""
    reached, override = Path(folder) / "reached", Path(folder) / "override.json"
    reached.unlink(missing_ok=True)
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    probe = {"_target_": "scripts.bench.first_window.FirstWindow", "network": network, "start": start}
    override.write_text(json.dumps({"evaluator#network": probe | {"path": str(reached)}}), encoding="utf-8")
    arguments = ["--config_file", str([str(config), str(override)]), "--output_dir", str(Path(folder) / "out")]
    arguments += [word for key, value in options.items() for word in (f"--{key}", value)]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    if not reached.exists():
        raise RuntimeError(f"{config} never reached its network:\n{done.stdout}\n{done.stderr}")
    return {"s": float(reached.read_text(encoding="ascii"))}


def seconds_of_import(module: str) -> float:
    """Wall seconds from the start of a process to the end of its import of `module`, which is all it does."""
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    code = f"import {module}, time; print(time.clock_gettime(time.CLOCK_MONOTONIC))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1]) - start
