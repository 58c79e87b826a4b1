"""Which cases a comparison uses: the bundle's own sections, fixed once, and the labelled part of the training cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple

from ..data.fingerprint import FILES
from ..data.images import file_stamp
from ..errors import InputError
from ..files import case_names, replacing, source_of
from .recipe import read_parser
from .scores import FindingScores, with_enough
from .settings import Settings

Item = dict[str, Any]
FILE_STAMPS = "files.json"  # sizes and time stamps of all files, in the folder of the lists


def list_sections(settings: Settings) -> dict[str, list[Item]]:
    """Training, validation and test items of the bundle, with labels.

    Raises:
        InputError: two of the sections share an image or a patient, so that a choice or a score would mean nothing.
    """
    recipe = settings.recipe
    options = {**settings.shared, **settings.fine_tuning, "dataset_dir": settings.dataset_dir}
    training = read_parser(recipe.bundle, ("train",), options)
    testing = read_parser(recipe.bundle, ("train", "evaluate"), options)
    sections = {
        "training": training.get_parsed_content("train#data"),
        "validation": training.get_parsed_content("validate#data"),
        "test": testing.get_parsed_content("validate#data"),
    }
    for first, second in (("training", "validation"), ("training", "test"), ("validation", "test")):
        shared = {group_of(item) for item in sections[first]} & {group_of(item) for item in sections[second]}
        if shared:
            raise InputError(
                f"{first} and {second} share {len(shared)} cases or patients, first {sorted(shared)[0]}; set split, "
                "validation_cases, validation_fraction or test_fraction so that they do not"
            )
    return sections


def group_of(item: Mapping[str, Any]) -> str:
    """What is drawn or held out as a whole: the patient where it is known, else the image."""
    return str(item.get("patient") or source_of(item["image"]))


def stamps_of(items: Sequence[Item]) -> dict[str, list[Any]]:
    """Size and time stamp of every file of the items, by its path."""
    values = [value for item in items for key in FILES for value in ensure_tuple(item.get(key, ()))]
    return {str(path): file_stamp(path)[1:] for path in values if isinstance(path, str | Path)}


def choose_labelled(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """At least `count` of the items, patient by patient in an order that depends on `seed` alone; all of them for 0.

    A larger count takes the same items and more. InputError where there are too few.
    """
    if not count:
        return list(items)
    if count > len(items):
        raise InputError(f"{count} labelled cases are asked for, there are {len(items)}; lower cases")
    groups = sorted({group_of(item) for item in items})
    rank = {groups[place]: order for order, place in enumerate(np.random.default_rng(seed).permutation(len(groups)))}
    ordered = sorted(items, key=lambda item: rank[group_of(item)])
    last = rank[group_of(ordered[count - 1])]
    return [item for item in items if rank[group_of(item)] <= last]


def without_labels(items: Sequence[Item]) -> list[Item]:
    """What pre-training gets to see."""
    return [{key: value for key, value in item.items() if key != "label"} for item in items]


def source_of_image(path: str, folders: Sequence[str]) -> int:
    """Which of several folders an image lies in; its own links are not followed."""
    for number, folder in enumerate(folders):
        if Path(path).absolute().is_relative_to(Path(folder).absolute()):
            return number
    raise InputError(f"{path} lies in none of {', '.join(folders)}; name the folder that holds it in dataset_dir")


class CaseLists:
    """The lists as files of `folder`, for the configs to read: `write` once, then the path of each."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.sections = list_sections(settings)
        if settings.recipe.classifies:
            for name in dict.fromkeys(("validation", settings.section)):
                if not self.rankable(name):
                    raise InputError(
                        f"no finding that would be scored has positive and negative {name} images of one folder; "
                        "give more images, or change validation_fraction or test_fraction"
                    )

    def count(self, cases: int, seed: int) -> int:
        """How many items the labelled list has."""
        return len(choose_labelled(self.sections["training"], cases, seed))

    def write(self) -> None:
        """Write every list that a run may name; InputError where one is there already with other cases or files.

        What ran before trained on those, and may have seen what would be scored now.
        """
        stamps = stamps_of([item for items in self.sections.values() for item in items])
        for name, items in [*self._all(), (FILE_STAMPS, stamps)]:
            file, content = self.folder / name, json.dumps(items, indent=1)
            if file.is_file() and file.read_text(encoding="utf-8") != content:
                moved = f", or remove {name} if nothing but time stamps changed" if name == FILE_STAMPS else ""
                raise InputError(f"the data are no longer those that {file} lists; choose another output_dir{moved}")
            with replacing(file) as beside:
                beside.write_text(content, encoding="utf-8")

    def labelled(self, cases: int, seed: int) -> Path:
        """The training items of a fine-tuning."""
        return self.folder / (f"labelled_{cases}_seed{seed}.json" if cases else "training.json")

    def images(self, cases: int, seed: int) -> Path:
        """The training images of a pre-training, without labels: all, or those of a fine-tuning."""
        whole = self.settings.pretrain_on == "all" or not cases
        return self.folder / ("images.json" if whole else f"images_{cases}_seed{seed}.json")

    def section(self, name: str) -> Path:
        """The items of validation or test, or of "validation_images", which have no labels."""
        return self.folder / f"{name}.json"

    def sources(self, name: str) -> dict[str, int]:
        """The number of the folder of each image of a section, by its name in the tables."""
        given = self.settings.dataset_dir
        folders = [given] if isinstance(given, str) else list(given)
        numbers = {item["image"]: source_of_image(item["image"], folders) for item in self.sections[name]}
        return {name: numbers[path] for path, name in case_names(numbers).items()}

    def rankable(self, name: str) -> bool:
        """Whether images of a section can be ranked by any finding that would be scored."""
        return not np.isnan(self._truth(name).per_class()).all()

    def positives(self, name: str) -> int:
        """Of the finding that has most, positive or negative images of a section, whichever are fewer."""
        truth = self._truth(name).truth
        return int(np.minimum(truth.sum(axis=0), (1 - truth).sum(axis=0)).max())

    def _truth(self, name: str) -> FindingScores:
        """The findings of a section that would be scored, without predictions."""
        sources, names = self.sources(name), case_names([item["image"] for item in self.sections[name]])
        cases = tuple(names[item["image"]] for item in self.sections[name])
        truth = np.asarray([item["label"] for item in self.sections[name]], dtype=float)
        classes, numbers = tuple(map(str, range(truth.shape[1]))), np.array([sources[case] for case in cases])
        return with_enough(FindingScores(cases, cases, classes, np.zeros_like(truth), truth, numbers))

    def _all(self) -> Iterator[tuple[str, list[Item]]]:
        for name, items in self.sections.items():
            yield f"{name}.json", items
        yield "images.json", without_labels(self.sections["training"])
        yield "validation_images.json", without_labels(self.sections["validation"])
        for cases in (cases for cases in self.settings.cases if cases):
            for seed in range(self.settings.seeds):
                items = choose_labelled(self.sections["training"], cases, seed)
                yield self.labelled(cases, seed).name, items
                yield f"images_{cases}_seed{seed}.json", without_labels(items)


def read_items(path: str | Path) -> list[Item]:
    """A list that `CaseLists` wrote, for a config's `data`."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
