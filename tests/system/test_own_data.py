"""The commands of docs/use-your-own-data.md lead from a folder of NIfTI files to a bundle that runs on its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.data.phantoms.ct import write_btcv

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "use-your-own-data.md"
NETWORK = "--img_size [32,32,32] --patch_size 8 --hidden_size 24 --num_layers 3 --num_heads 2 --spacing [8,8,8]"
DECODER = " --decoder_hidden_size 24 --decoder_num_layers 1 --decoder_num_heads 2"
EPOCH = " --max_epochs 2 --num_workers 0"
# Added to each command to make it small: MAE, fine-tuning, evaluation, own bundle; the last has it all.
SMALL = [NETWORK + DECODER + EPOCH, NETWORK + " --feature_size 4 --val_interval 1" + EPOCH]
SMALL += [NETWORK + " --feature_size 4", NETWORK + " --feature_size 4", ""]


def commands() -> list[str]:
    """The page's commands, but for those that make data and start MONAI Label (tests/system/test_label.py)."""
    blocks = re.findall(r"```\n(.*?)\n```", PAGE.read_text(), flags=re.DOTALL)
    return [block for block in blocks if block.startswith("python")]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten CTs with two classes, under names of their own."""
    folder = tmp_path_factory.mktemp("own")
    write_btcv(folder, 10, shape=(44, 40, 38), spacing=(9.0, 8.5, 8.0), workers=1)
    for number, image in enumerate(sorted(folder.glob("imagesTr/*.nii.gz"))):
        label = folder / "labelsTr" / image.name.replace("img", "label")
        volume = nib.load(label)
        voxels = np.asarray(volume.dataobj)
        classes = np.where(voxels == 6, 1, np.where(voxels == 1, 2, 0)).astype(np.uint8)
        label.unlink()
        nib.save(nib.Nifti1Image(classes, volume.affine), folder / "labelsTr" / f"patient_{number}.nii.gz")
        image.rename(image.with_name(f"patient_{number}.nii.gz"))
    return folder


@pytest.mark.slow
def test_the_page_leads_to_a_bundle_of_ones_own(data: Path, tmp_path: Path) -> None:
    assert len(commands()) == len(SMALL)
    values = {"DATA": str(data), "OUT": str(tmp_path), "CLASSES": "['liver','spleen']", "CHANNELS": "3"}
    values |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    for command, small in zip(commands(), SMALL, strict=True):
        own = f"--cache_dir {tmp_path}/cache" if "train.json" in command else ""
        words = ["bash", "-c", f"{command} {small} {own}"]
        done = subprocess.run(words, cwd=ROOT, env=os.environ | values, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stderr[-3000:]}"
    assert len(list((tmp_path / "labels").glob("patient_*_seg.nii.gz"))) == 10
    assert "dice_native,mean of 2" in (tmp_path / "evaluation" / "summary.csv").read_text()
    metadata = json.loads((tmp_path / "my_segmentation" / "configs" / "metadata.json").read_text())
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {"0": "background", "1": "liver", "2": "spleen"}
