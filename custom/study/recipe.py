"""What a comparison needs to know of a bundle, found from the bundle's own configs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from ..errors import InputError
from ..options import parse_configs, unknown_part

PRETRAINING_OF_CT = "mae_pretrain_ct"  # the sibling of a bundle that has no pretrain.json of its own


@dataclass(frozen=True)
class Recipe:
    """How a task is pre-trained and fine-tuned.

    bundle: fine-tunes and evaluates. pretraining_bundle: pre-trains its encoder. pretrain: stems of the config files
    that do, gauge: of those that measure it. encoder: the file of weights that they write. classifies: findings of an
    image rather than its voxels.
    """

    bundle: Path
    pretraining_bundle: Path
    pretrain: tuple[str, ...]
    gauge: tuple[str, ...]
    encoder: str
    classifies: bool

    @property
    def metric(self) -> str:
        """What the comparison is about."""
        return "AUC" if self.classifies else "Dice"

    @property
    def curve(self) -> str:
        """The scalar that validation logs after each epoch it runs in."""
        return "val_mean_auc" if self.classifies else "val_mean_dice"


def find_recipe(bundle: str | Path) -> Recipe:
    """The recipe of a task bundle; InputError for a folder that is none."""
    if not isinstance(bundle, str | Path) or "\0" in str(bundle):
        raise InputError(f"bundle is {bundle!r}; set it to a folder such as bundles/unetr_btcv")
    bundle = Path(bundle).resolve()
    for stem in ("train", "evaluate"):
        if not (bundle / "configs" / f"{stem}.json").is_file():
            raise InputError(f"{bundle} has no configs/{stem}.json; set bundle to a folder such as bundles/unetr_btcv")
    network = read_config(bundle, ["train"]).get("network_def")
    if not isinstance(network, Mapping):
        raise InputError(f"{bundle}/configs/train.json has no network_def; set bundle to one like bundles/unetr_btcv")
    classifies = "Classifier" in str(network.get("_target_"))
    if (bundle / "configs" / "pretrain.json").is_file():
        stems = ("train", "pretrain")
        return Recipe(bundle, bundle, stems, (*stems, "pretrain_evaluate"), "pretrained.pt", classifies)
    sibling = bundle.parent / PRETRAINING_OF_CT
    if not (sibling / "configs" / "train.json").is_file():
        raise InputError(f"{bundle} cannot pre-train, and {sibling} is not there; put that bundle beside it")
    return Recipe(bundle, sibling, ("train",), ("train", "evaluate"), "model.pt", classifies)


def config_files(bundle: Path, stems: Sequence[str]) -> list[str]:
    """Paths of a bundle's config files."""
    return [str(bundle / "configs" / f"{stem}.json") for stem in stems]


def read_parser(bundle: Path, stems: Sequence[str], options: Mapping[str, Any] | None = None) -> ConfigParser:
    """A bundle's config files with options set, nothing resolved yet."""
    parser = parse_configs(config_files(bundle, stems))
    parser["bundle_root"] = str(bundle)
    for key, value in (options or {}).items():
        merge_kv(parser, key, value)
    return parser


def read_config(bundle: Path, stems: Sequence[str]) -> dict[str, Any]:
    """A bundle's config files, merged and unresolved."""
    return read_parser(bundle, stems).get()


def check_options(options: Mapping[str, Any], bundle: Path, stems: Sequence[str]) -> None:
    """InputError for an option that the config does not have, which MONAI would ignore."""
    known = read_config(bundle, stems)
    for key in options:
        if (hint := unknown_part(key, known)) is not None:
            files = " + ".join(stems)
            raise InputError(f"{files} of bundle {bundle.name} has no option {key}; {hint or 'correct it'}")


def batch_size(parser: Any) -> int:
    """Cases a batch."""
    return int(parser.get_parsed_content("train#dataloader#batch_size"))


def drops_last(parser: Any) -> bool:
    """Whether an epoch ends where the cases do not fill a batch."""
    return "drop_last" in parser["train#dataloader"] and bool(parser.get_parsed_content("train#dataloader#drop_last"))


def samples(parser: Any) -> int:
    """Crops a case."""
    crops = "num_samples" in parser["train#dataset"]
    return int(parser.get_parsed_content("train#dataset#num_samples")) if crops else 1
