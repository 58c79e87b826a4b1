"""Images a second into the network, from the cache and by decoding PNG: `python -m scripts.bench_images`.

Generated chest X-rays of 1024 x 1024 pixels, as NIH publishes them; pre-training's augmentation (random resized crop to
224 x 224, flip, scaling); one process, no workers. Both ways see the same images, turn and turn about.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import fire
from monai.data import Dataset
from monai.transforms import Compose, RandFlipd, ScaleIntensityRanged

from custom.data import ImageDataset
from custom.data.phantoms.cxr_files import write_nih
from custom.transforms import LoadRadiographd, RandResizedCropd


def bench(patients: int = 30, repeats: int = 5) -> None:
    """Print images/s of both ways, medians of `repeats` passes over the images of `patients`, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        write_nih(Path(folder), patients, shape=(1024, 1024))
        files = sorted((Path(folder) / "images").iterdir())
        data = [{"image": str(path), "patient": "", "name": path.stem} for path in files]
        load = LoadRadiographd("image", 256)
        augmentation = [
            RandResizedCropd("image", 224), RandFlipd("image", 0.5, 1),
            ScaleIntensityRanged("image", 0, 255, -0.5 / 0.225, 0.5 / 0.225),
        ]  # fmt: skip
        start = time.perf_counter()
        cached = ImageDataset(data, Path(folder) / "cache", [load], augmentation)
        first = len(data) / (time.perf_counter() - start)
        plain = Dataset(data, Compose([load, *augmentation]))
        ours, theirs = interleaved(lambda: read(cached), lambda: read(plain), repeats)
    sys.stdout.write(
        f"{len(data)} images of 1024 x 1024: first pass {first:.0f} images/s; then {ours:.0f} images/s from the cache, "
        f"{theirs:.0f} images/s by decoding; ratio {ours / theirs:.1f}\n"
    )


def interleaved(first: Callable[[], float], second: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Medians of two measurements, turn and turn about, after a warm-up of each."""
    pairs = [(first(), second()) for _ in range(repeats + 1)][1:]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)


def read(dataset: Any) -> float:
    """Images a second of one pass."""
    start = time.perf_counter()
    for index in range(len(dataset)):
        dataset[index]
    return len(dataset) / (time.perf_counter() - start)


if __name__ == "__main__":
    fire.Fire(bench)
