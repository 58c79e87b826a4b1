"""Time and memory of segmenting one CT of 512 x 512 x 128 voxels, file to file: `make bench`.

Runs the default inference of unetr_btcv in a process of its own on a generated CT at 0.75 x 0.75 x 2.5 mm; with
`--runtime onnx` in onnxruntime, where the first run may have to export the network.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fire
import nibabel as nib
import numpy as np

from custom.data.phantoms.ct import generate_ct

ROOT = Path(__file__).resolve().parent.parent
SHAPE, SPACING = (512, 512, 128), (0.75, 0.75, 2.5)


def bench(repeats: int = 3, runtime: str = "torch") -> None:
    """Print the wall time and peak memory of each of `repeats` runs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ct.nii.gz"
        image, _ = generate_ct(0, 0, SHAPE, SPACING)
        nib.save(nib.Nifti1Image(image, np.diag([*SPACING, 1.0])), path)
        sys.stdout.write(f"{os.cpu_count()} CPU cores; {SHAPE} voxels of {SPACING} mm, file to file\n")
        for _ in range(repeats):
            seconds, gigabytes = segment(path, Path(folder) / "out", runtime)
            sys.stdout.write(f"{seconds:6.1f} s   {gigabytes:.2f} GiB peak\n")


def segment(path: Path, output_dir: Path, runtime: str) -> tuple[float, float]:
    """Wall seconds and peak memory in GiB (the largest of all runs so far) of one inference."""
    bundle = ROOT / "bundles" / "unetr_btcv"
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run"]
    command += ["--config_file", str(bundle / "configs" / "inference.json"), "--bundle_root", str(bundle)]
    command += ["--dataset_dir", str(path), "--output_dir", str(output_dir), "--runtime", runtime]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


if __name__ == "__main__":
    fire.Fire(bench)
