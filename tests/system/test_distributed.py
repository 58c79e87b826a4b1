"""Two processes train one model and write one set of results."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.cxr_files import write_nih
from custom.data.phantoms.mr import write_msd

ROOT = Path(__file__).resolve().parents[2]
SIZE = "--patch_size 8 --hidden_size 24 --num_layers 3 --num_heads 2"
VOLUMES = f"--spacing [8,8,8] --img_size [32,32,32] {SIZE}"
DECODER = "--decoder_hidden_size 24 --decoder_num_layers 1 --decoder_num_heads 2"


def torchrun(name: str, configs: list[str], words: str, folder: Path, size: str = VOLUMES, processes: int = 2) -> None:
    files = [f"bundles/{name}/configs/{config}.json" for config in configs]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["-m", "monai.bundle", "run", "--config_file", str(files), "--bundle_root", f"bundles/{name}"]
    command += (
        f"--dataset_dir {folder}/data --cache_dir {folder}/cache --output_dir {folder}/out {size} {words}".split()
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def images(folder: Path) -> dict[str, list[float]]:
    """Patient, probabilities and labels of every image in an evaluation's table, which lists none twice."""
    with (folder / "out" / "per_image.csv").open() as file:
        _, *rows = csv.reader(file)
    table = {name: [float(cell) for cell in cells] for name, *cells in rows}
    assert len(table) == len(rows)
    return table


@pytest.mark.slow
def test_pretraining_finetuning_and_evaluation_run_in_two_processes(tmp_path: Path) -> None:
    write_btcv(tmp_path / "data", 12, shape=(44, 40, 38), spacing=(9.0, 8.5, 8.0))
    epoch = "--max_epochs 1 --warmup_epochs 0 --num_workers 0"
    mae = f"{DECODER} {epoch} --batch_size 1 --monitor_interval 1 --ckpt_dir {tmp_path}/mae"
    torchrun("mae_pretrain_ct", ["train", "multi_gpu_train"], mae, tmp_path)
    weights = torch.load(tmp_path / "mae" / "model.pt", weights_only=True)["model"]
    assert not any(key.startswith("module.") for key in weights)

    unetr = f"--feature_size 4 {epoch} --val_interval 1 --ckpt_dir {tmp_path}/unetr"
    start = f"--pretrained_weights {tmp_path}/mae/model.pt"
    torchrun("unetr_btcv", ["train", "multi_gpu_train"], f"{unetr} {start}", tmp_path)
    check = f"--feature_size 4 --num_workers 0 --checkpoint {tmp_path}/unetr/model.pt"
    torchrun("unetr_btcv", ["train", "evaluate", "multi_gpu_evaluate"], check, tmp_path)
    rows = (tmp_path / "out" / "per_case.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 * 13  # every test case once


@pytest.mark.slow
def test_the_brain_tumour_bundle_pretrains_and_finetunes_in_two_processes(tmp_path: Path) -> None:
    write_msd(tmp_path / "data", 10, shape=(24, 28, 24), spacing=(7.0, 7.0, 7.0), workers=1)
    epoch = f"--max_epochs 1 --warmup_epochs 0 --num_workers 0 --batch_size 1 --ckpt_dir {tmp_path}/brats"
    torchrun("unetr_brats", ["train", "pretrain", "multi_gpu_train"], f"{DECODER} {epoch}", tmp_path)
    start = f"--feature_size 4 {epoch} --val_interval 1 --pretrained_weights {tmp_path}/brats/pretrained.pt"
    torchrun("unetr_brats", ["train", "multi_gpu_train"], start, tmp_path)
    check = f"--feature_size 4 --num_workers 0 --checkpoint {tmp_path}/brats/model.pt"
    torchrun("unetr_brats", ["train", "evaluate", "multi_gpu_evaluate"], check, tmp_path)
    assert len((tmp_path / "out" / "per_case.csv").read_text().splitlines()) == 1 + 2 * 3


@pytest.mark.slow
def test_the_chest_x_ray_bundle_pretrains_and_finetunes_in_two_processes(tmp_path: Path) -> None:
    write_nih(tmp_path / "data", 24, shape=(48, 48), workers=1)
    size = f"--img_size 32 {SIZE}"
    epoch = f"--max_epochs 1 --warmup_epochs 0 --num_workers 0 --batch_size 4 --ckpt_dir {tmp_path}/cxr"
    torchrun("vit_cxr14", ["train", "pretrain", "multi_gpu_train"], f"{DECODER} {epoch}", tmp_path, size)
    start = f"{epoch} --pretrained_weights {tmp_path}/cxr/pretrained.pt"
    torchrun("vit_cxr14", ["train", "multi_gpu_train"], start, tmp_path, size)
    check = f"--num_workers 0 --val_batch_size 4 --checkpoint {tmp_path}/cxr/model.pt"
    torchrun("vit_cxr14", ["train", "evaluate", "multi_gpu_evaluate"], check, tmp_path, size)
    listed = (tmp_path / "data" / "test_list.txt").read_text().split()
    assert len(images(tmp_path)) == len(listed)  # every test image once
    probe = f"--num_workers 0 --pretrained_weights {tmp_path}/cxr/pretrained.pt"
    configs = ["train", "evaluate", "linear_probe"]
    torchrun("vit_cxr14", [*configs, "multi_gpu_evaluate"], probe, tmp_path, size)
    both = images(tmp_path)
    torchrun("vit_cxr14", configs, probe, tmp_path, size, processes=1)
    alone = images(tmp_path)
    assert alone.keys() == both.keys()
    for image, numbers in alone.items():  # one process sums in another order than two: the last digit may differ
        assert both[image] == pytest.approx(numbers, rel=1e-4)
    probed = list(csv.DictReader((tmp_path / "out" / "probe.csv").open()))
    assert [row["epoch"] for row in probed] == ["0", "1"]
