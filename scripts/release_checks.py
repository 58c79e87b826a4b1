"""What a bundle must be before it is packed: MONAI's specification, the model zoo's rules, and that it works.

A check yields a sentence for each fault: what is wrong, and what to change. What cannot be checked here
raises `Unchecked`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import yaml
from monai.bundle import ConfigParser

from custom.errors import InputError

from .release_configs import object_faults, run_faults
from .release_outside import Unchecked, git, index_versions, read_schema
from .tiny import ROOT, combinations

logger = logging.getLogger(__name__)

LIMIT_MB = 25
REQUIRED = (
    "LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "custom/__init__.py",
    "docs/README.md", "docs/data_license.txt", "models/model.pt",
)  # fmt: skip
ALLOWED = re.compile(
    r"LICENSE|large_files\.yml|configs/\w+\.json|configs/logging\.conf|custom/(\w+/)*\w+\.py|docs/\w+\.(md|txt|png|csv)|models/\w+\.pt"
)
SECTIONS = (
    "Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "Usage", "System Configuration",
    "Limitations", "Citation", "References",
)  # fmt: skip
KEYS = {
    "inference": ("bundle_root", "device", "network_def", "inferer", "output_dir"),
    "train": (
        "bundle_root", "device", "dataset_dir", "train#trainer#max_epochs", "train#dataset#data", "train#handlers",
    ),
    "validate": ("validate#evaluator", "validate#handlers", "validate#dataset#data", "val_interval"),
}  # fmt: skip
FENCED = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?(^ {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
EXACT = re.compile(r"\d+(\.\d+)+")


class Release(NamedTuple):
    """A packed bundle, and the name it has in this project, whatever its folder is called."""

    folder: Path
    name: str

    @property
    def metadata(self) -> dict[str, Any]:
        """Its metadata.json."""
        return json.loads((self.folder / "configs/metadata.json").read_text(encoding="utf-8"))

    @property
    def readme(self) -> str:
        """Its docs/README.md."""
        return (self.folder / "docs/README.md").read_text(encoding="utf-8")


def check_files(release: Release) -> Iterator[str]:
    """What the specification asks for is there, nothing else is, and every config is JSON."""
    files = sorted(path.relative_to(release.folder).as_posix() for path in release.folder.rglob("*") if path.is_file())
    for name in REQUIRED:
        if name not in files:
            yield f"{name} is missing or a broken link; add it"
    for name in files:
        if not ALLOWED.fullmatch(name):
            yield f"{name} is no part of a bundle; remove it, or allow it in scripts/release_checks.py"
        elif name.endswith(".json"):
            try:
                json.loads((release.folder / name).read_text(encoding="utf-8"))
            except ValueError as error:
                yield f"{name} is not JSON ({error}); correct it"


def check_sizes(release: Release) -> Iterator[str]:
    """No file is over the zoo's limit, unless large_files.yml says where it is hosted."""
    listed = release.folder / "large_files.yml"
    hosted = [entry["path"] for entry in yaml.safe_load(listed.read_text())["large_files"]] if listed.is_file() else []
    for path in sorted(path for path in release.folder.rglob("*") if path.is_file()):
        name, size = path.relative_to(release.folder).as_posix(), path.stat().st_size / 2**20
        if size > LIMIT_MB and name not in hosted:
            yield f"{name} has {size:.1f} MB, over the zoo's {LIMIT_MB}; shrink it, or host weights (--weights_url)"


def check_schema(release: Release) -> Iterator[str]:
    """The metadata follow the schema they name; the environment variable METADATA_SCHEMA may name a copy of it."""
    metadata = release.metadata
    if "schema" not in metadata:
        yield "configs/metadata.json names no schema; add the URL of MONAI's newest"
        return
    try:
        schema = read_schema(metadata["schema"])
    except FileNotFoundError:
        yield f"configs/metadata.json names {metadata['schema']}, which does not exist; correct the URL"
        return
    for error in jsonschema.validators.validator_for(schema)(schema).iter_errors(metadata):
        yield f"configs/metadata.json breaks its schema at {error.json_path}: {error.message}; correct it"


def check_changelog(release: Release) -> Iterator[str]:
    """The metadata explain their version."""
    metadata = release.metadata
    if metadata["version"] not in metadata.get("changelog", {}):
        yield f"configs/metadata.json has version {metadata['version']}, its changelog does not; add an entry"


def check_readme(release: Release) -> Iterator[str]:
    """The README has the sections of the zoo's template, and links to files of the bundle only."""
    text = FENCED.sub("", release.readme)
    found = {heading.strip(" *").lower() for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for section in SECTIONS:
        if section.lower() not in found:
            yield f"docs/README.md has no section {section}; add a heading of that name"
    for link in re.findall(r"\]\(([^)#\s]+)", text):
        inside = (release.folder / "docs" / link).resolve().is_relative_to(release.folder.resolve())
        if not re.match(r"\w+:", link) and not (inside and (release.folder / "docs" / link).exists()):
            yield f"docs/README.md links to {link}, which is not in the bundle; name it without a link"


def check_pins(release: Release) -> Iterator[str]:
    """Every version is exact, and the package index that pip is configured with has it."""
    metadata = release.metadata
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    pins = {package: str(metadata.get(key)) for package, key in named.items()}
    pins |= metadata.get("required_packages_version", {})
    absent = []
    for package, version in pins.items():
        if not EXACT.fullmatch(version):
            yield f"configs/metadata.json pins {package} to '{version}', which is not exact; write it as in 1.2.3"
        elif version not in index_versions(package):
            absent.append(f"{package} {version}")
    if absent and not index_versions("pip"):
        raise Unchecked(f"whether {', '.join(absent)} exist, because the package index of pip does not answer")
    for pin in absent:
        yield f"configs/metadata.json pins {pin}, which the package index does not have; pin a released version"


def check_keys(release: Release) -> Iterator[str]:
    """The configs have the keys that the zoo's own checks read."""
    for file in ("inference", "train"):
        path = release.folder / "configs" / f"{file}.json"
        if path.is_file():
            parser = ConfigParser()
            parser.read_config(str(path))
            wanted = KEYS[file] + (KEYS["validate"] if file == "train" and "validate" in parser else ())
            for key in wanted:
                if key not in parser:
                    yield f"configs/{file}.json has no {key}, which the zoo requires; add or rename it"


def check_combinations(release: Release) -> Iterator[str]:
    """Every config is part of a combination that the checks and tests run."""
    known = {stem for combination in combinations(release.folder) for stem in combination.files} | {"metadata"}
    for path in sorted((release.folder / "configs").glob("*.json")):
        if path.stem not in known:
            yield f"configs/{path.name} is in no combination that is checked; add one to scripts/tiny.py"


def check_objects(release: Release) -> Iterator[str]:
    """MONAI's check_properties of every combination is clean, TorchScript and ONNX compute what PyTorch does."""
    yield from object_faults(release.folder, release.name)


def check_runs(release: Release) -> Iterator[str]:
    """Every combination of configs runs to its end, tiny and on generated images, with the bundle's own code."""
    yield from run_faults(release.folder, release.name)


def check_committed(release: Release) -> Iterator[str]:
    """What is packed is what was committed; a training without --ckpt_dir, for one, overwrites models/model.pt."""
    if Path(git(ROOT, "rev-parse", "--show-toplevel").strip()) != ROOT:
        raise Unchecked(f"whether its files are committed, because {ROOT} is not the top of a git checkout")
    for line in git(ROOT, "status", "--porcelain", "-uall", "--", f"bundles/{release.name}", "custom").splitlines():
        status, file = line[:2], line[3:]
        advice = "remove it" if status in ("??", "A ", "AM") else f"take it back: git checkout HEAD -- {file}"
        yield f"{file} is not as committed; commit it, or {advice}"


Check = Callable[[Release], Iterator[str]]
CHECKS: Sequence[Check] = (
    check_committed, check_sizes, check_schema, check_changelog, check_readme, check_pins, check_keys,
    check_combinations, check_objects, check_runs,
)  # fmt: skip


def faults_of(release: Release, checks: Sequence[Check] = CHECKS) -> list[str]:
    """Every fault that `checks` find; only the missing files, where there are any. Logs what could not be checked."""
    faults = list(check_files(release))
    for check in () if faults else checks:
        try:
            for fault in check(release):
                faults.append(fault)
        except InputError as error:
            faults.append(str(error))
        except Unchecked as reason:
            logger.warning(f"not checked for {release.name}: {reason}")
    return faults
