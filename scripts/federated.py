"""Train a bundle on several sites that keep their images, by federated averaging in NVIDIA FLARE's simulator.

python -m scripts.federated bundles/mae_pretrain_ct --sites north=DIR,south=DIR --output_dir OUT

Runs in an environment of its own (`make federated`), which has the packages of requirements-federated.txt.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv
from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe.sim_env import SimEnv
from nvflare.recipe.utils import set_per_site_config
from torch import nn

from custom.checkpoints import load_weights, write_checkpoint
from custom.errors import InputError, explain_errors
from custom.options import unknown_part

from .command_line import run_command_line
from .tiny import config_files

logger = logging.getLogger(__name__)
CLIENT = Path(__file__).with_name("federated_site.py")
JOB = "federated"
# Options of the bundles that would part what belongs to one site, or undo the averaging.
FOLDERS = ("dataset_dir", "cache_dir", "output_dir", "ckpt_dir", "bundle_root")
OWNED = dict.fromkeys(FOLDERS, "each site has its own folders")
OWNED |= {
    "resume": "a site would go on from its own weights instead of the average",
    "max_epochs": "rounds and local_epochs say it",
    "early_stop": "a site that stopped would send what it was sent",
}


def federated(
    bundle: str,
    sites: str,
    output_dir: str,
    rounds: int = 2,
    local_epochs: int = 1,
    configs: str | Sequence[str] = "train",
    initial_weights: str = "",
    **options: Any,
) -> str:
    """Train in `rounds`: each site for `local_epochs` on its own images, then the average weighted by training cases.

    Args:
        bundle: the bundle's folder, such as bundles/mae_pretrain_ct.
        sites: name=dataset_dir of each site, with commas between them.
        output_dir: gets model.pt, the average, and in sites/NAME what each site writes.
        rounds: how often the sites' weights are averaged.
        local_epochs: epochs between two averages.
        configs: the bundle's configs by name, with commas between them, such as train,pretrain.
        initial_weights: weights of the whole network to go on from.
        options: options of the bundle for all sites: img_size, pretrained_weights, ...

    Returns:
        the file of the average, in the form that the bundles read.

    Raises:
        InputError: no such bundle or site, an option the bundle lacks, or a site that failed.
    """
    if taken := sorted(set(options) & set(OWNED)):
        raise InputError(f"{taken[0]} cannot be set for sites: {OWNED[taken[0]]}; leave it out")
    out, stems = Path(output_dir).resolve(), configs.split(",") if isinstance(configs, str) else list(configs)
    folders = read_sites(sites)
    if " " in str(out):
        raise InputError(f"output_dir {out} has a space, where NVIDIA FLARE parts its arguments; use another folder")
    network = initial_network(Path(bundle), stems, initial_weights, options)
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.pt").unlink(missing_ok=True)  # of an earlier run; what stands there is this run's
    write_checkpoint({"model": network.state_dict()}, out / "initial.pt")
    settings = {"bundle": str(Path(bundle).resolve()), "configs": stems, "local_epochs": local_epochs}
    files = {name: write_settings(out / "sites" / name, settings, options, data) for name, data in folders.items()}
    recipe = averaging(out / "initial.pt", files, rounds)
    average = simulate(recipe, list(folders), out)
    load_weights(network, average)  # refuses what a training that diverged leaves
    write_checkpoint({"model": network.state_dict()}, out / "model.pt")
    logger.info(f"the average of {len(folders)} sites after {rounds} rounds is in {out / 'model.pt'}")
    return str(out / "model.pt")


def read_sites(sites: str) -> dict[str, Path]:
    """The folder of each site, of "name=folder,name=folder"; InputError if there are not two with folders."""
    pairs = [pair.partition("=")[::2] for pair in str(sites).split(",")]
    folders = {name.strip(): Path(folder).resolve() for name, folder in pairs}
    if len(folders) < 2 or len(folders) < len(pairs) or not all(folder for _, folder in pairs):
        raise InputError(f"sites is {sites}; give two or more as NAME=FOLDER,NAME=FOLDER, each name once")
    for name, folder in folders.items():
        if not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name) or name == "server":
            raise InputError(f"a site is called {name}; use letters, digits, - and _, and not server")
        if not folder.is_dir():
            raise InputError(f"site {name} has no folder {folder}; give the folder of its images")
    return folders


def initial_network(bundle: Path, stems: Sequence[str], weights: str, options: Mapping[str, Any]) -> nn.Module:
    """The network that the configs describe, on the CPU, as a training would start with it."""
    files = config_files(bundle, stems)
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"{missing[0]} does not exist; give a bundle's folder and names of its configs")
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    for key in options:
        if (hint := unknown_part(key, parser.config)) is not None:
            raise InputError(f"{bundle.name} has no option {key}; {hint or 'correct it or leave it out'}")
    parser["bundle_root"] = str(bundle)
    for key, value in options.items():
        merge_kv(parser, key, value)
    torch.manual_seed(parser.get_parsed_content("seed"))
    parser.get_parsed_content("network")  # fills the encoder of network_def from pretrained_weights
    network = parser.get_parsed_content("network_def").cpu()
    return load_weights(network, weights) if weights else network


def write_settings(folder: Path, settings: Mapping[str, Any], options: Mapping[str, Any], dataset_dir: Path) -> Path:
    """The file that tells a site what to train on; all that the site writes goes to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    own = {"dataset_dir": str(dataset_dir), "cache_dir": str(folder / "cache")}
    own |= {"ckpt_dir": str(folder), "output_dir": str(folder)}
    own |= {key: value for key, value in options.items() if key != "pretrained_weights"}  # of which the server begins
    file = folder / "settings.json"
    file.write_text(json.dumps({**settings, "options": own}, indent=4) + "\n", encoding="utf-8")
    return file


def averaging(initial: Path, settings: Mapping[str, Path], rounds: int) -> FedAvgRecipe:
    """NVIDIA FLARE's job: federated averaging from the weights `initial`, on sites with these settings files.

    Made in the project's folder it can be exported: it then names none of this machine's but the given paths.
    """
    persistor = PTFileModelPersistor(source_ckpt_file_full_name=str(initial), load_device="cpu")
    recipe = FedAvgRecipe(
        name=JOB,
        model_persistor=persistor,
        min_clients=len(settings),
        num_rounds=rounds,
        train_script=str(CLIENT.relative_to(Path.cwd()) if CLIENT.is_relative_to(Path.cwd()) else CLIENT),
    )
    set_per_site_config(recipe, {name: {"train_args": str(file)} for name, file in settings.items()})
    return recipe


def simulate(recipe: FedAvgRecipe, sites: Sequence[str], folder: Path) -> Path:
    """Run the job in the simulator, a process for each site; returns the file of the average."""
    workspace = folder / "workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    try:
        recipe.execute(SimEnv(clients=list(sites), workspace_root=str(workspace)))
    except RuntimeError as error:  # the simulator's, for whatever happened
        raise InputError(why_it_failed(workspace / JOB, sites)) from error
    return workspace / JOB / "server" / "simulate_job" / "app_server" / "FL_global_model.pt"


def why_it_failed(workspace: Path, sites: Sequence[str]) -> str:
    """The sentence that a site's log ends with, or where the logs are."""
    for site in sites:
        log = workspace / site / "error_log.txt"
        if found := re.findall(r"InputError: (.*)", log.read_text(encoding="utf-8") if log.is_file() else ""):
            return f"site {site}: {found[0]}"
    return f"the server or a site failed; log.txt in {workspace / 'server'} and in the folders beside it says why"


if __name__ == "__main__":
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_command_line(federated)
