"""The bundles' own configs, read with other values in their place: what all rows measure."""

from __future__ import annotations

from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from .measure import ROOT

CPU = {"device": "cpu", "attention": "explicit"}  # as the bundles choose where there is no GPU


def bundle_config(name: str, *stems: str, **values: Any) -> ConfigParser:
    """The config files `stems` of a bundle, read together, with `values` as on its command line."""
    root = ROOT / "bundles" / name
    parser = ConfigParser()
    parser.read_config([str(root / "configs" / f"{stem}.json") for stem in stems])
    parser.update({"bundle_root": str(root)} | values)
    return parser


def shipped_network(name: str) -> nn.Module:
    """The network of a bundle's inference.json with its weights, on the CPU."""
    return bundle_config(name, "inference", **CPU).get_parsed_content("network").eval()
