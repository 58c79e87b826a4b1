"""Long runs in one process: `make soak` trains 2,000 steps and infers 500 times a bundle, and looks for what grows.

    python -m tests.system.soak --steps 2000 --inferences 500 --output_dir OUT

Exit status 1 if memory grew by 2 % after warm-up, open files, threads or shared memory at all, or if any was left.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import time
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from monai.bundle import ConfigParser, run
from tqdm import tqdm

from scripts.command_line import run_command_line
from scripts.tiny import IMAGES, LAYOUTS, ROOT, TINY, config_files, write_data, write_weights

from .usage import Growth, Usage, growth, read_usage, usage

SAMPLES = 60  # measurements of a run, or a quarter of its iterations if those are few
TRAININGS = (("mae_pretrain_ct", ("train",)), ("unetr_btcv", ("train",)), ("vit_cxr14", ("train",)))
INFERENCES = ("unetr_btcv", "vit_cxr14")
TRAINED = {"num_workers": 1, "batch_size": 2, "num_samples": 1, "warmup_epochs": 1, "monitor_interval": 10}
FEW = 10  # validations, or what else is done after epochs, in a run


class Soaked(NamedTuple):
    """A run, how long it took, what it held meanwhile, and what it had left when it was over."""

    name: str
    seconds: float
    samples: list[Usage]
    left: Usage

    @property
    def growth(self) -> Growth:
        """After warm-up."""
        return growth(self.samples)

    def faults(self, before: Usage, most_growth: float) -> list[str]:
        """What grew; `before` is what the process held before the run, `most_growth` a fraction of the memory."""
        memory, *counts = self.growth._asdict().items()
        found = [f"{name} grew by {value:g}" for name, value in counts if value > 0]
        found += [f"memory grew by {memory[1]:.1%}"] if memory[1] >= most_growth else []
        left = [name for name in ("children", "shared") if getattr(self.left, name) > getattr(before, name)]
        return found + [f"{name} left behind" for name in left]


def runs(steps: int, inferences: int, folder: Path) -> Iterator[tuple[str, dict[str, Any], Path]]:
    """(name, arguments of `monai.bundle.run`, file of what is measured) of every run, one after the other."""
    data = {layout: write_data(layout, folder / layout) for layout in ("btcv", "nih")}
    for name, stems in TRAININGS:
        place = folder / f"{name}_{'_'.join(stems)}"
        options = training(name, stems, steps, data[LAYOUTS[name]], place)
        yield place.name, options, place / "usage.csv"
    for name in INFERENCES:
        place = folder / f"{name}_inference"
        yield place.name, inference(name, inferences, data[LAYOUTS[name]], place), place / "usage.csv"


def training(name: str, stems: tuple[str, ...], steps: int, data: Path, place: Path) -> dict[str, Any]:
    """A training of so many steps, with a worker process, on the phantoms in `data`."""
    place.mkdir(parents=True)
    root = ROOT / "bundles" / name
    files = [str(file) for file in config_files(root, stems)]
    own = {"dataset_dir": str(data), "output_dir": str(place), "ckpt_dir": str(place), "bundle_root": str(root)}
    own |= {"cache_dir": str(place / "cache")} | TINY[name]
    parser = ConfigParser()
    parser.read_config(files)
    own |= {key: value for key, value in TRAINED.items() if key in parser}
    parser.update(own)
    epochs = ceil(steps / len(parser.get_parsed_content("train#dataloader")))
    rare = ("val_interval", "save_interval", "probe_interval")
    own |= {"max_epochs": epochs} | {key: ceil(epochs / FEW) for key in rare if key in parser}
    return {"config_file": [*files, watched("train#handlers", place, steps)], **own}


def inference(name: str, count: int, data: Path, place: Path) -> dict[str, Any]:
    """The default inference, pictures included, of so many names of four images."""
    root, images = ROOT / "bundles" / name, place / "images"
    images.mkdir(parents=True)
    sources = sorted((data / IMAGES[LAYOUTS[name]]).parent.iterdir())[:4]
    for index in range(count):
        source = sources[index % len(sources)]
        (images / f"case{index:04d}{''.join(source.suffixes)}").symlink_to(source)
    files = [str(file) for file in config_files(root, ["inference"])]
    own = {"dataset_dir": str(images), "output_dir": str(place), "bundle_root": str(root)}
    own |= {"checkpoint": str(write_weights(name, ["inference"], place / "weights.pt"))} | TINY[name]
    return {"config_file": [*files, watched("handlers", place, count)], **own}


def watched(handlers: str, place: Path, iterations: int) -> str:
    """A config file that adds the measuring handler."""
    watch = {"path": str(place / "usage.csv"), "interval": iterations // min(SAMPLES, iterations // 4)}
    file = place / "watch.json"
    file.write_text(json.dumps({f"+{handlers}": [{"_target_": "tests.system.usage.Watch", **watch}]}))
    return str(file)


def soak(steps: int, inferences: int, folder: Path, most_growth: float) -> Iterator[tuple[Soaked, list[str]]]:
    """Every run and its faults, all in this process."""
    tqdm.get_lock()  # a semaphore, which the first progress bar makes and the process keeps
    for name, options, measured in runs(steps, inferences, folder):
        before, start = usage(), time.monotonic()
        run(**options, logging_file=False)
        gc.collect()
        done = Soaked(name, time.monotonic() - start, read_usage(measured), usage())
        yield done, done.faults(before, most_growth)


def sentence(done: Soaked) -> str:
    """What was measured of a run."""
    first, last = done.samples[len(done.samples) // 5], done.samples[-1]
    return (
        f"{done.name}: {last.done:.0f} iterations in {done.seconds:.0f} s; {first.memory:.0f} MiB after warm-up, "
        f"{last.memory:.0f} MiB at the end, growth {done.growth.memory:+.2%}; open files {first.handles:.0f} -> "
        f"{last.handles:.0f}, {done.left.handles} when over; threads {first.threads:.0f} -> {last.threads:.0f}; "
        f"shared memory left {done.left.shared}"
    )


def main(output_dir: str, steps: int = 2000, inferences: int = 500, most_growth: float = 0.02) -> None:
    """Do it all and print what was measured.

    Args:
        output_dir: for data, weights and, in `<run>/usage.csv`, every measurement; must be new.
        steps: of every training.
        inferences: of every bundle that infers.
        most_growth: of memory, from the first third of a run after warm-up to its last.
    """
    logging.disable(logging.INFO)
    grown = False
    for done, faults in soak(steps, inferences, Path(output_dir).resolve(), most_growth):
        grown = grown or bool(faults)
        sys.stdout.write(f"{sentence(done)}; {'; '.join(faults) or 'nothing grew'}\n")
        sys.stdout.flush()
    sys.exit(1 if grown else 0)


if __name__ == "__main__":
    run_command_line(main)
