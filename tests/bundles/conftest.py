"""Generated images in the layouts of BTCV, MSD, BraTS and NIH, and bundles small enough to run on them in a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, run
from torch import nn

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.cxr_files import write_nih
from custom.data.phantoms.mr import write_brats, write_msd
from custom.networks import MAE, UNETR, ViTClassifier

ROOT = Path(__file__).resolve().parents[2]
NETWORK: dict[str, Any] = {
    "img_size": [32, 32, 32], "patch_size": 8, "hidden_size": 24, "num_layers": 3, "num_heads": 2,
}  # fmt: skip
DECODER = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
SPACING = {"spacing": [8.0, 8.0, 8.0]}
TINY = {
    "mae_pretrain_ct": NETWORK | DECODER | SPACING,
    "unetr_btcv": NETWORK | SPACING | {"feature_size": 4},
    "unetr_brats": NETWORK | SPACING | {"feature_size": 4},
    "vit_cxr14": NETWORK | {"img_size": 32},
}
QUICK = {"num_workers": 0, "max_epochs": 1, "warmup_epochs": 0}

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
    folder = tmp_path_factory.mktemp("btcv")
    write_btcv(folder, 12, shape=(44, 40, 38), spacing=(9.0, 8.5, 8.0), workers=2)
    return folder


@pytest.fixture(scope="session")
def msd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 brain phantoms in MSD's layout: eight train and two test in its fold 0 of 5."""
    folder = tmp_path_factory.mktemp("msd")
    write_msd(folder, 10, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    return folder


@pytest.fixture(scope="session")
def brats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """5 brain phantoms in the layout of BraTS 2021: four train and one tests in fold 0 of 5."""
    folder = tmp_path_factory.mktemp("brats")
    write_brats(folder, 5, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    return folder


@pytest.fixture(scope="session")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Chest X-ray phantoms of 40 patients in NIH's layout; ten patients test."""
    folder = tmp_path_factory.mktemp("nih")
    write_nih(folder, 40, shape=(48, 48))
    return folder


@pytest.fixture(scope="session")
def datasets(btcv: Path, msd: Path, nih: Path) -> dict[str, Path]:
    """Data to train each bundle on."""
    return {"mae_pretrain_ct": btcv, "unetr_btcv": btcv, "unetr_brats": msd, "vit_cxr14": nih}


@pytest.fixture(scope="session")
def images(btcv: Path, msd: Path, nih: Path) -> dict[str, Path]:
    """An image for each bundle's inference."""
    ct, mr = btcv / "imagesTr" / "img0001.nii.gz", msd / "imagesTr" / "BRATS_001.nii.gz"
    cxr = nih / "images" / "00000001_000.png"
    return {"mae_pretrain_ct": ct, "unetr_btcv": ct, "unetr_brats": mr, "vit_cxr14": cxr}


@pytest.fixture(scope="session")
def run_bundle(datasets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunBundle:
    """run_bundle(name, "train", "evaluate", output=folder, **options): a bundle at tiny size on the phantoms."""
    cache = tmp_path_factory.mktemp("cache")

    def run_tiny(name: str, *configs: str, output: Path, **options: Any) -> None:
        root = ROOT / "bundles" / name
        files = [str(root / "configs" / f"{config}.json") for config in configs]
        own = {"dataset_dir": str(datasets[name]), "output_dir": str(output), "bundle_root": str(root)}
        if "inference" not in configs:
            own |= {"cache_dir": str(cache), "ckpt_dir": str(output)} | QUICK
        if "pretrain" in configs or "reconstruct" in configs:
            own |= DECODER
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
    networks = {
        "mae_pretrain_ct": MAE(1, **NETWORK, **DECODER),
        "unetr_btcv": UNETR(1, 14, **NETWORK, feature_size=4),
        "unetr_brats": UNETR(4, 3, **NETWORK, feature_size=4),
        "vit_cxr14": ViTClassifier(1, num_classes=14, pos_embed="learnable", **NETWORK | {"img_size": [32, 32]}),
    }
    for name, network in networks.items():
        torch.save({"model": network.state_dict()}, folder / f"{name}.pt")
    return {name: folder / f"{name}.pt" for name in networks}
