"""Last items of a postprocessing chain of a classifier: probabilities as a file, and a picture, of each image."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..errors import InputError
from ..files import case_name, case_path, replacing
from ..networks import ViTClassifier
from ..pictures_2d import draw_relevance
from ..relevance import relevance


class SaveFindingsd(MapTransform):
    """Write `<output_dir>/<case>_findings.json`: {"image": file name, "probabilities": {finding: number}}.

    Args:
        keys: probabilities (K,); one key.
        class_names: the findings, in the order of the channels.
        output_dir: made when missing.
        image_key: names the case by its file.
    """

    def __init__(
        self, keys: KeysCollection, class_names: Sequence[str], output_dir: str | Path, image_key: str = "image"
    ) -> None:
        super().__init__(keys)
        self.class_names, self.output_dir, self.image_key = list(class_names), Path(output_dir), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        path = Path(case_path(data, self.image_key))
        content = {"image": path.name, "probabilities": probabilities(data[self.first_key(data)], self.class_names)}
        with replacing(self.output_dir / f"{case_name(path)}_findings.json") as unfinished:
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return data


class SaveRelevanced(MapTransform):
    """Write `<output_dir>/<case>_relevance.png`: image, where the network looked for one finding, all probabilities.

    Args:
        keys: probabilities (K,); one key.
        network: the classifier that gave them.
        class_names: the findings, in the order of the channels.
        output_dir: made when missing.
        finding: whose relevance is shown; "" takes the most probable one.
        image_key: what the network saw (C, H, W), with the name of its file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        network: ViTClassifier,
        class_names: Sequence[str],
        output_dir: str | Path,
        finding: str = "",
        image_key: str = "image",
    ) -> None:
        super().__init__(keys)
        if finding and finding not in class_names:
            raise InputError(f"finding {finding!r} is unknown; use one of {', '.join(class_names)}")
        self.network, self.class_names, self.finding = network, list(class_names), finding
        self.output_dir, self.image_key = Path(output_dir), image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        found = probabilities(data[self.first_key(data)], self.class_names)
        finding = self.finding or max(found, key=found.__getitem__)
        image, name = data[self.image_key].as_tensor(), case_name(case_path(data, self.image_key))
        device = next(self.network.parameters()).device
        shown = relevance(self.network, image[None].to(device), self.class_names.index(finding))
        path = self.output_dir / f"{name}_relevance.png"
        draw_relevance(image[0].cpu().numpy(), np.asarray(shown.cpu()), found, finding, path, name)
        return data


def probabilities(values: Any, class_names: Sequence[str]) -> dict[str, float]:
    """{finding: probability}, to four digits."""
    numbers = [round(float(value), 4) for value in values]
    if len(numbers) != len(class_names):
        raise InputError(f"{len(numbers)} probabilities do not fit {len(class_names)} class_names; name all findings")
    return dict(zip(class_names, numbers, strict=True))
