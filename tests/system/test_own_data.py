"""The commands of docs/use-your-own-data.md lead from a folder of NIfTI files to a bundle that runs on its own."""

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
    """The page's commands after the one that makes data, up to those of make."""
    blocks = re.findall(r"```\n(.*?)\n```", PAGE.read_text(), flags=re.DOTALL)
    return [block for block in blocks if block.startswith("python") and "scripts.phantoms" not in block]


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
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
    }
    for command, small in zip(commands(), SMALL, strict=True):
        own = f"--cache_dir {tmp_path}/cache" if "--ckpt_dir" in command or "evaluate" in command else ""
        words = re.sub(r"\bOUT/", f"{tmp_path}/", f"{command} {small} {own}")
        words = re.sub(r"\bDATA\b", str(data), words).replace("CT.nii.gz", f"{data}/imagesTr/patient_3.nii.gz")
        done = subprocess.run(words, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}\n{done.stderr[-3000:]}"
    assert (tmp_path / "labels" / "patient_3_seg.nii.gz").is_file()
    assert "dice_native,mean of 2" in (tmp_path / "evaluation" / "summary.csv").read_text()
    assert "tumour" in (tmp_path / "liver_segmentation" / "configs" / "metadata.json").read_text()
