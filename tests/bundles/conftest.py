"""Generated images in the layouts of BTCV, MSD, BraTS and NIH, and bundles small enough to run on them in a second."""

import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, run
from torch import nn

from custom.data.phantoms.mr import write_brats
from scripts.pack import pack
from scripts.tiny import IMAGES, LAYOUTS, QUICK, ROOT, TINY, config_files, write_data, write_weights

# Ends a run of two epochs after the first, with the learning rates of two.
STOPPED = {"train#trainer#max_epochs": 1, "lr_scheduler#total_steps": "$2 * len(@train#dataloader)"}
RunBundle = Callable[..., None]


def shipped_network(name: str) -> nn.Module:
    """The default network of a bundle with its shipped weights, on the CPU."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / name / "configs" / "inference.json"))
    parser["bundle_root"] = str(ROOT / "bundles" / name)
    return parser.get_parsed_content("network").cpu().eval()


@pytest.fixture(scope="session")
def btcv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 phantoms numbered 1-10, 21, 22: six train and six test in the TransUNet split."""
    return write_data("btcv", tmp_path_factory.mktemp("btcv"))


@pytest.fixture(scope="session")
def msd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 brain phantoms in MSD's layout: eight train and two test in its fold 0 of 5."""
    return write_data("msd", tmp_path_factory.mktemp("msd"))


@pytest.fixture(scope="session")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 brain phantoms in the layout of BraTS 2021: four train and one tests in fold 0 of 5."""
    folder = tmp_path_factory.mktemp("brats")
    write_brats(folder, 5, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    return folder


@pytest.fixture(scope="session")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chest X-ray phantoms of 40 patients in NIH's layout; ten patients test."""
    return write_data("nih", tmp_path_factory.mktemp("nih"))


@pytest.fixture(scope="session")
def datasets(btcv: Path, msd: Path, nih: Path) -> dict[str, Path]:
    """Data to train each bundle on."""
    layouts = {"btcv": btcv, "msd": msd, "nih": nih}
    return {name: layouts[layout] for name, layout in LAYOUTS.items()}


@pytest.fixture(scope="session")
def images(datasets: dict[str, Path]) -> dict[str, Path]:
    """An image for each bundle's inference."""
    return {name: datasets[name] / IMAGES[layout] for name, layout in LAYOUTS.items()}


@pytest.fixture(scope="session")
def run_bundle(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunBundle:
    """run_bundle(name, "train", "evaluate", output=folder, **options): a bundle at tiny size on the phantoms."""
    cache = tmp_path_factory.mktemp("cache")

    def run_tiny(name: str, *configs: str, output: Path, **options: Any) -> None:
        root = ROOT / "bundles" / name
        files = [str(file) for file in config_files(root, configs)]
        own = {"dataset_dir": str(datasets[name]), "output_dir": str(output), "bundle_root": str(root)}
        if "inference" not in configs:
            own |= {"cache_dir": str(cache), "ckpt_dir": str(output)} | QUICK
        run(config_file=files, **(own | TINY[name] | options))

    return run_tiny


@pytest.fixture(scope="session")
def pretrained(run_bundle: RunBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two epochs of pre-training."""
    output = tmp_path_factory.mktemp("pretrained")
    run_bundle("mae_pretrain_ct", "train", output=output, max_epochs=2, monitor_interval=1)
    return output


@pytest.fixture(scope="session")
def finetuned(run_bundle: RunBundle, pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two epochs of fine-tuning from `pretrained`."""
    output = tmp_path_factory.mktemp("finetuned")
    weights = str(pretrained / "model.pt")
    run_bundle("unetr_btcv", "train", output=output, max_epochs=2, val_interval=1, pretrained_weights=weights)
    return output


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of each bundle at tiny size."""
    folder = tmp_path_factory.mktemp("weights")
    return {name: write_weights(name, ["inference"], folder / f"{name}.pt") for name in TINY}


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all archives unzipped, in another place than `dist/`; the checks are tests of their own."""
    folder = tmp_path_factory.mktemp("release")
    for archive in pack(output_dir=folder / "dist", checks=()):
        with zipfile.ZipFile(archive) as file:
            file.extractall(folder / "unzipped")
    return folder / "unzipped"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine: its URL and the folder that it serves."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
