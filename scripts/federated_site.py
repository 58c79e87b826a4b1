"""What a site of a federation runs: it trains a bundle on its own images, and weights are all that it sends.

NVIDIA FLARE hands this file to the sites. It stands alone: what a site trains on, and how, is in a file of the site's.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import nvflare.client as flare
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from nvflare.apis.fl_constant import FLMetaKey
from torch import nn

logger = logging.getLogger(__name__)


def learner(settings: dict[str, Any], name: str, rounds: int) -> MonaiAlgo:
    """MONAI's trainer of the site's bundle, its learning rates planned for all `rounds`.

    `settings` has the bundle's folder, its configs by stem, local_epochs, and options of the bundle: dataset_dir, ...
    """
    sys.path.insert(1, settings["bundle"])  # its `custom`, as `monai.bundle run` finds it
    epochs = rounds * settings["local_epochs"]  # MONAI tells the trainer of those of one round
    planned = {"warmup_epochs": epochs // 20, "lr_scheduler#total_steps": f"${epochs} * len(@train#dataloader)"}
    algo = MonaiAlgo(
        bundle_root=settings["bundle"],
        local_epochs=settings["local_epochs"],
        config_train_filename=[f"configs/{stem}.json" for stem in settings["configs"]],
        config_evaluate_filename=None,
        train_kwargs=planned | settings["options"],
    )
    algo.initialize({ExtraItems.CLIENT_NAME: name})
    return algo


def place_of(network: nn.Module, trained: nn.Module) -> str:
    """What names of `network`'s tensors begin with in `trained`, which is it or holds it: a masked autoencoder's."""
    return next(f"{name}." if name else "" for name, module in trained.named_modules() if module is network)


def train_round(algo: MonaiAlgo, received: flare.FLModel) -> flare.FLModel:
    """Train on the site's images from the received weights; returns how they changed, weighted by training cases.

    Of tensors of floating-point numbers: an average of whole numbers, such as a grid's size, would spoil them.
    """
    workflow = algo.train_workflow
    prefix = place_of(workflow.network_def, algo.trainer.network)
    algo.train(ExchangeObject(weights={prefix + name: value for name, value in received.params.items()}))
    weights = algo.get_weights().weights  # less those received
    changes = {name: weights[prefix + name] for name in received.params}
    changes = {name: value for name, value in changes.items() if value.is_floating_point()}
    cases = len(workflow.train_dataset_data)
    logger.info(f"sends the changes of {len(changes)} tensors, trained on {cases} cases")
    meta = {FLMetaKey.NUM_STEPS_CURRENT_ROUND: cases}  # what FedAvg weights by
    return flare.FLModel(params=changes, params_type=flare.ParamsType.DIFF, meta=meta)


def main(settings_file: str) -> None:
    """Take part until the server ends the job."""
    settings = json.loads(Path(settings_file).read_text(encoding="utf-8"))
    flare.init()
    algo = None
    while flare.is_running():
        received = flare.receive()
        if received is None:  # the job has ended
            break
        algo = algo or learner(settings, flare.get_site_name(), received.total_rounds)
        flare.send(train_round(algo, received))
    if algo:
        algo.finalize()


if __name__ == "__main__":
    main(sys.argv[1])
