"""Two sites of different size pre-train and fine-tune in NVIDIA FLARE: what is averaged, and what leaves a site.

Runs where NVIDIA FLARE is installed: `make test-federated`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import pytest
import torch
from monai.bundle import run
from torch import Tensor

from custom.checkpoints import read_weights
from custom.data.phantoms.ct import write_btcv
from custom.errors import InputError
from scripts.tiny import DECODER, NETWORK, ROOT, SPACING

pytest.importorskip("nvflare", reason="NVIDIA FLARE has an environment of its own: make test-federated")

from scripts.federated import federated, initial_network, read_sites

from .federated_recorder import SITECUSTOMIZE

CASES = {"north": 10, "south": 5}
TRAINED = {"pretraining": {"north": 8, "south": 4}, "training": {"north": 7, "south": 3}}  # one validates a training
STAGES = sorted(TRAINED)
SITES = sorted(CASES)
FLOAT32 = {"rtol": 1e-6, "atol": 1e-6}  # an average in single precision against one in double
OPTIONS = {"split": "0/5", "num_workers": 0} | NETWORK | SPACING
PRETRAINING = OPTIONS | DECODER
TRAINING = OPTIONS | {"validation_cases": 1, "feature_size": 4}


def federate(folder: Path, stage: str, bundle: str, sites: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run `python -m scripts.federated` into `folder`/`stage`, with a recorder; see federated_recorder.py."""
    notes = {"MESSAGES": folder / f"{stage}_messages", "OPENED_FILES": folder / f"{stage}_opened"}
    notes |= {"PYTHONPATH": folder / "startup", "OMP_NUM_THREADS": "1"}
    for name in ("MESSAGES", "OPENED_FILES", "PYTHONPATH"):
        notes[name].mkdir(parents=True, exist_ok=True)
    (folder / "startup" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    words = [f"bundles/{bundle}", "--sites", sites, "--output_dir", str(folder / stage)]
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    start = "from tests.system.federated_recorder import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", start, *words]
    environment = os.environ | {name: str(value) for name, value in notes.items()}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data of two sites in `data`, and what two rounds of pre-training and of fine-tuning from it left."""
    folder = tmp_path_factory.mktemp("federated")
    for seed, (site, cases) in enumerate(CASES.items()):
        write_btcv(folder / "data" / site, cases, seed=seed, shape=(44, 40, 38), spacing=(9.0, 8.5, 8.0), workers=1)
    sites = ",".join(f"{site}={folder / 'data' / site}" for site in CASES)
    done = federate(folder, "pretraining", "mae_pretrain_ct", sites, **PRETRAINING)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    weights = str(folder / "pretraining" / "model.pt")
    done = federate(folder, "training", "unetr_btcv", sites, pretrained_weights=weights, **TRAINING)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


def message(folder: Path, stage: str, name: str) -> tuple[dict[str, Tensor], dict[tuple[str, ...], object]]:
    """A message by its name: its tensors, and all that is in it beside them, by place."""
    content = torch.load(folder / f"{stage}_messages" / f"{name}.pt", weights_only=False)
    tensors = {place: leaf for place, leaf in content.items() if isinstance(leaf, Tensor)}
    assert all(place[:2] == ("DXO", "data") for place in tensors)
    return {place[2]: leaf for place, leaf in tensors.items()}, {k: v for k, v in content.items() if k not in tensors}


def weighted_average(parts: Sequence[tuple[dict[str, Tensor], float]]) -> dict[str, Tensor]:
    """In double precision."""
    total = sum(weight for _, weight in parts)
    return {name: sum(part[name].double() * weight for part, weight in parts) / total for name in parts[0][0]}


def is_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Whether all of `expected` are in `found`."""
    return all(torch.allclose(found[name].double(), value, **FLOAT32) for name, value in expected.items())


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_global_weights_are_the_sites_average_by_training_cases(folder: Path, stage: str) -> None:
    """After the last round in the file, after the round before in what the sites are sent."""
    after = {0: message(folder, stage, "to_north_1")[0], 1: read_weights(folder / stage / "model.pt")}
    for number, found in after.items():
        before, _ = message(folder, stage, f"to_north_{number}")
        changes = [message(folder, stage, f"from_{site}_{number}")[0] for site in SITES]
        sent = [{name: before[name] + value for name, value in part.items()} for part in changes]
        weights = [TRAINED[stage][site] for site in SITES]
        assert is_close(found, weighted_average(list(zip(sent, weights, strict=True))))
        assert not is_close(found, weighted_average([(part, 1.0) for part in sent]))  # the sites' weights do differ


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_both_sites_start_from_the_same_weights(folder: Path, stage: str) -> None:
    first = read_weights(folder / stage / "initial.pt")
    for site in SITES:
        found, _ = message(folder, stage, f"to_{site}_0")
        assert found.keys() == first.keys()
        assert all(found[name].equal(value) for name, value in first.items())


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_whole_numbers_are_not_averaged(folder: Path, stage: str) -> None:
    first, last = (read_weights(folder / stage / f"{name}.pt") for name in ("initial", "model"))
    whole = [name for name, value in first.items() if not value.is_floating_point()]
    assert whole == ["encoder.grid_size"]
    assert all(last[name].dtype == first[name].dtype and last[name].equal(first[name]) for name in whole)


@pytest.mark.slow
def test_fine_tuning_starts_with_the_pretrained_encoder(folder: Path) -> None:
    pretrained = read_weights(folder / "pretraining" / "model.pt")
    initial = read_weights(folder / "training" / "initial.pt")
    encoder = {name for name in initial if name.startswith("encoder.")}
    assert len(encoder) > 30
    assert all(initial[name].equal(pretrained[name]) for name in encoder)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("site", SITES)
def test_a_site_sends_its_networks_tensors_and_the_number_of_its_cases(folder: Path, stage: str, site: str) -> None:
    network = {
        name: value for name, value in read_weights(folder / stage / "model.pt").items() if value.is_floating_point()
    }
    for number in range(2):
        tensors, rest = message(folder, stage, f"from_{site}_{number}")
        assert {name: value.shape for name, value in tensors.items()} == {
            name: value.shape for name, value in network.items()
        }
        own = {place[1:]: value for place, value in rest.items() if place[0] != "__headers__"}
        assert own.pop(("meta", "NUM_STEPS_CURRENT_ROUND")) == TRAINED[stage][site]
        assert own == {("kind",): "WEIGHT_DIFF"}
        headers = [str(value) for place, value in rest.items() if place[0] == "__headers__"]
        assert sum(len(text) for text in headers) < 1000  # names of job, task, round and site
        assert not any("nii" in text or str(folder) in text for text in headers)


def opened_by_process(folder: Path, stage: str) -> list[list[str]]:
    """The files that each process opened, other than Python's own; settings are written by the job's author."""
    lists = [path.read_text().splitlines() for path in (folder / f"{stage}_opened").iterdir()]
    return [[path for path in files if Path(path).name != "settings.json"] for files in lists]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_no_process_but_a_sites_own_opens_its_images(folder: Path, stage: str) -> None:
    """By Python's audit of every process: the server's and the job's author's open none, a site's only its own."""
    own = {site: (f"{folder / 'data' / site}/", f"{folder / stage / 'sites' / site}/") for site in SITES}
    seen = []
    for files in opened_by_process(folder, stage):
        touched = {site for site in SITES if any(path.startswith(own[site]) for path in files)}
        assert len(touched) < 2
        places = tuple(place for site in touched for place in own[site])
        volumes = {path for path in files if path.endswith((".nii.gz", ".nii", "image.npy"))}
        assert all(path.startswith(places) for path in volumes)
        if volumes:
            read = {Path(path).name for path in volumes if path.endswith("nii.gz") and "imagesTr" in path}
            seen.append((*touched, len(read)))
    needed = {site: count + (stage == "training") for site, count in TRAINED[stage].items()}
    assert sorted(seen) == sorted(needed.items())  # one process a site, and it read the images it trains on


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_the_servers_folder_holds_weights_and_logs(folder: Path, stage: str) -> None:
    files = [path for path in (folder / stage / "workspace").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".txt", ".json", ".default", ".py", ".pyc", ".pt"}
    server = folder / stage / "workspace" / "federated" / "server"
    assert [path.name for path in server.rglob("*.pt")] == ["FL_global_model.pt"]


@pytest.mark.slow
def test_the_average_segments_an_image(folder: Path, tmp_path: Path) -> None:
    image = folder / "data" / "south" / "imagesTr" / "img0001.nii.gz"
    infer("unetr_btcv", image, folder / "training" / "model.pt", tmp_path, **NETWORK, **SPACING, feature_size=4)
    (label,) = tmp_path.glob("*.nii.gz")
    assert nib.load(label).shape == nib.load(image).shape


@pytest.mark.slow
def test_the_average_reconstructs_an_image(folder: Path, tmp_path: Path) -> None:
    image = folder / "data" / "south" / "imagesTr" / "img0001.nii.gz"
    infer("mae_pretrain_ct", image, folder / "pretraining" / "model.pt", tmp_path, **NETWORK, **SPACING, **DECODER)
    assert list(tmp_path.glob("*.nii.gz"))


def infer(bundle: str, image: Path, weights: Path, output: Path, **options: object) -> None:
    """Run a bundle's inference."""
    root = ROOT / "bundles" / bundle
    own = {"bundle_root": str(root), "dataset_dir": str(image), "checkpoint": str(weights), "output_dir": str(output)}
    run(config_file=str(root / "configs" / "inference.json"), **own, **options)


@pytest.mark.slow
def test_a_site_that_fails_ends_the_job_with_its_name_and_reason(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sites = f"north={folder / 'data' / 'north'},west={tmp_path / 'empty'}"
    done = federate(tmp_path, "failing", "mae_pretrain_ct", sites, **PRETRAINING)
    assert done.returncode != 0
    assert f"site west: folder {tmp_path / 'empty'} holds no .nii" in done.stderr
    assert not (tmp_path / "failing" / "model.pt").exists()


@pytest.mark.parametrize("sites", ["", "north", "north=,south=", "north=.", "north=.,north=.", "server=.,south=.",
                                   "no/rth=.,south=.", "north=.,south=no_such_folder"])  # fmt: skip
def test_sites_without_two_names_and_folders_are_refused(sites: str) -> None:
    with pytest.raises(InputError, match="site"):
        read_sites(sites)


@pytest.mark.parametrize("option", ["dataset_dir", "cache_dir", "resume", "max_epochs", "early_stop"])
def test_options_that_would_part_or_join_sites_are_refused(option: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{option} cannot be set for sites"):
        federated("bundles/mae_pretrain_ct", f"a={tmp_path},b={tmp_path}", str(tmp_path / "out"), **{option: "x"})


def test_an_option_that_the_bundle_lacks_is_refused() -> None:
    with pytest.raises(InputError, match="has no option masking_ration"):
        initial_network(ROOT / "bundles" / "mae_pretrain_ct", ["train"], "", {"masking_ration": 0.5})
