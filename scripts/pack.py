"""Self-contained releases: `dist/<name>/`, `dist/<name>_v<version>.zip` and its sha256, with `custom` inside.

In this repository each bundle links to the one `custom`; a release has to carry it. The same content makes the same
archive, byte for byte: files are stored as they are, since compression depends on the version of zlib and gains only a
tenth, as most of it is weights. The checks run on an unzipped copy of the archive, not on what it was made of.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import yaml

from custom.errors import InputError, explain_errors

from . import archives
from .bundle_files import copy_bundle
from .release_checks import CHECKS, Check, Release, faults_of
from .release_files import publish, refuse_target, sha256, write_archive

ROOT = Path(__file__).resolve().parent.parent
FETCH = (
    "The weights are not in this archive: `python -m monai.bundle download_large_files --bundle_path .` fetches them."
)


class Prepared(NamedTuple):
    """A release that is not yet where it shall be: its folder, its archive, and what is wrong with them."""

    folder: Path
    archive: Path
    faults: list[str]


def pack(
    names: Sequence[str] = (),
    output_dir: str | Path = "dist",
    rename: str = "",
    weights_url: str = "",
    checks: Sequence[Check] = CHECKS,
) -> list[Path]:
    """Pack bundles into `output_dir`; returns the archives.

    Args:
        names: which bundles; none for all.
        rename: another name for the folder, the archive and the commands in the README; of one bundle.
        weights_url: the folder where models/*.pt will be hosted; they are left out then, and listed in large_files.yml.
            `{name}` stands for the release's name, `{version}` for its version.
        checks: what a release has to pass.

    Raises:
        InputError: an unknown bundle, options that do not fit, a folder in the way, or all faults that were found.
    """
    chosen = choose(names)
    refuse_options(chosen, rename, weights_url)
    titles = {name: rename or name for name in chosen}
    for title in titles.values():
        refuse_target(Path(output_dir) / title, ROOT)
    with TemporaryDirectory() as scratch:
        prepared = [
            prepare(ROOT / "bundles" / name, Path(scratch) / name, title, weights_url, checks)
            for name, title in titles.items()
        ]
        refuse_faults(prepared)
        return [publish(one.folder, one.archive, Path(output_dir)) for one in prepared]


def choose(names: Sequence[str]) -> list[str]:
    """The bundles called `names`, each once; all for none. InputError for one that does not exist."""
    available = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))
    for name in names:
        if name not in available:
            raise InputError(f"bundle {name} does not exist; choose from {', '.join(available)}")
    return list(dict.fromkeys(names)) or available


def refuse_options(chosen: Sequence[str], rename: str, weights_url: str) -> None:
    """InputError for options of `pack` that do not fit the chosen bundles."""
    if rename and (len(chosen) > 1 or not re.fullmatch(r"\w+", rename)):
        raise InputError(f"--as {rename} is for one bundle, and of letters, digits and _; name the bundle before it")
    if weights_url and len(chosen) > 1 and "{name}" not in weights_url:
        raise InputError("--weights_url is the same for several bundles, whose files have the same names; add {name}")
    if weights_url and not re.match(r"\w+://", weights_url):
        raise InputError(f"--weights_url {weights_url} is no address; begin it with https://")
    if re.search(r"[{}]", fill(weights_url, "", "")):
        raise InputError(
            f"--weights_url {weights_url}: only {{name}} and {{version}} are filled in; remove other braces"
        )


def fill(weights_url: str, name: str, version: str) -> str:
    """The URL with a release's name and version in their places."""
    return weights_url.replace("{name}", name).replace("{version}", version)


def prepare(source: Path, scratch: Path, name: str, weights_url: str, checks: Sequence[Check]) -> Prepared:
    """One release in `scratch`, checked where a user would use it."""
    folder = copy_bundle(source, scratch / "packed" / name)
    try:
        version = read_version(folder)
    except InputError as error:
        return Prepared(folder, scratch, [str(error)])
    rename_in_readme(folder / "docs" / "README.md", source.name, name)
    weights = sorted((folder / "models").glob("*.pt")) if weights_url else []
    if weights:
        list_weights(folder, weights, fill(weights_url, name, version))
    archive = write_archive(folder, scratch / f"{name}_v{version}.zip")
    unzipped = unzip(archive, scratch / "unzipped" / name, source / "models")
    return Prepared(folder, archive, faults_of(Release(unzipped, source.name), checks))


def read_version(folder: Path) -> str:
    """The version in the metadata; InputError if it cannot be read."""
    try:
        return str(json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"])
    except (ValueError, KeyError) as error:
        raise InputError(f"{folder.name}: configs/metadata.json is not JSON with a version; correct it") from error


def rename_in_readme(readme: Path, old: str, new: str) -> None:
    """The bundle's name, wherever it stands as a word of its own: in commands, paths and the call of `load`."""
    if readme.is_file() and old != new:
        text = readme.read_text(encoding="utf-8")
        readme.write_text(re.sub(rf"\b{old}\b", new, text), encoding="utf-8")


def list_weights(folder: Path, weights: Sequence[Path], url: str) -> None:
    """Replace weights by large_files.yml, which MONAI's download_large_files reads; the README says so under Usage."""
    entries = [
        {
            "path": f"models/{path.name}",
            "url": f"{url.rstrip('/')}/{path.name}",
            "hash_val": sha256(path),
            "hash_type": "sha256",
        }
        for path in weights
    ]
    (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": entries}, sort_keys=False))
    for path in weights:
        path.unlink()
    readme = folder / "docs" / "README.md"
    if readme.is_file():
        text = readme.read_text(encoding="utf-8")
        readme.write_text(text.replace("\n## Usage\n", f"\n## Usage\n\n{FETCH}\n", 1), encoding="utf-8")


def unzip(archive: Path, folder: Path, models: Path) -> Path:
    """Unzip a release to `folder`, with hosted weights in their place; returns it."""
    archives.unzip(archive, folder.parent)
    place = folder / "models"
    place.mkdir(exist_ok=True)
    for path in models.glob("*.pt"):
        if not (place / path.name).exists():
            shutil.copy(path, place)
    return folder


def refuse_faults(prepared: Sequence[Prepared]) -> None:
    """InputError with every fault of every release."""
    faulty = [one for one in prepared if one.faults]
    if faulty:
        lists = ["\n- ".join([f"{one.folder.name} is not ready to be released:", *one.faults]) for one in faulty]
        raise InputError("\n".join([*lists, "nothing was written; mend the faults and pack again"]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pack", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="bundles to pack (all)")
    parser.add_argument("--output_dir", "--output-dir", default="dist")
    parser.add_argument("--as", dest="rename", default="", metavar="NAME", help="another name for the one bundle")
    parser.add_argument(
        "--weights_url", "--weights-url", default="", metavar="URL", help="where models/*.pt are hosted"
    )
    pack(**vars(parser.parse_args()))


if __name__ == "__main__":
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    main()
