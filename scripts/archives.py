"""Archives and hosted weights, checked before anything of them is used."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from struct import error as StructError
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files

from custom.errors import InputError

from .release_files import sha256

MOST_GROWTH, SLACK = 20, 2**20  # an archive that claims to hold more than 20 times its size is refused
ENTRY = {"path", "url", "hash_val", "hash_type"}
BROKEN = (zipfile.BadZipFile, EOFError, zlib.error, StructError, NotImplementedError, RuntimeError, ValueError)


def unzip(archive: Path, output_dir: Path, expected: str = "", fetch: bool = False) -> Path:
    """Unzip an archive that holds one folder to `output_dir`, the whole of it or nothing; returns that folder.

    Args:
        archive: a zip file.
        output_dir: made when missing; it must not hold a folder of that name.
        expected: the sha256 that the archive must have; "" for any.
        fetch: download its large files as well, before the folder gets its name.

    Raises:
        InputError: another sha256, a file that is no whole zip, a member that is a link or whose name is absolute,
            leads out of the folder or comes twice, an archive that claims to hold far more than it can, or large files
            that `fetch_large_files` refuses.
    """
    if not archive.is_file():
        raise InputError(f"{archive} does not exist; correct the path")
    if expected and sha256(archive) != expected.lower():
        raise InputError(f"{archive} has another sha256 than {expected}; download it again, and do not use this one")
    output_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output_dir, prefix=".unzipping.") as scratch:
        try:
            with zipfile.ZipFile(archive) as file:
                target = output_dir / check_members(file.infolist(), archive)
                if target.exists() or target.is_symlink():
                    raise InputError(f"{target} exists; move it away, or unzip to another folder")
                file.extractall(scratch)
        except BROKEN as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{archive} is no whole zip without a password ({error}); download it again") from error
        if fetch:
            fetch_large_files(Path(scratch) / target.name)
        (Path(scratch) / target.name).rename(target)
    return target


def check_members(members: Sequence[zipfile.ZipInfo], archive: Path) -> str:
    """The name of the one folder that all members are in; InputError for members as `unzip` refuses them."""
    names: set[str] = set()
    for member in members:
        if fault := fault_of(member):
            raise InputError(f"{archive} holds {member.orig_filename!a}, {fault}; do not use this archive")
        if (name := member.filename.rstrip("/").casefold()) in names:
            raise InputError(f"{archive} holds {member.filename!a} twice; do not use this archive")
        names.add(name)
    if sum(member.file_size for member in members) > MOST_GROWTH * archive.stat().st_size + SLACK:
        raise InputError(f"{archive} claims to hold more than {MOST_GROWTH} times its size; do not use this archive")
    tops = {PurePosixPath(member.filename).parts[0] for member in members}
    if len(tops) != 1 or len(names) == 1:
        raise InputError(f"{archive} does not hold one folder with files; give the archive of a release")
    return tops.pop()


def fault_of(member: zipfile.ZipInfo) -> str:
    """Why a member is not to be unzipped; "" where it may be."""
    name, kind = member.orig_filename, stat.S_IFMT(member.external_attr >> 16)
    parts = name.removesuffix("/").split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or any(sign in name for sign in "\\:\0"):
        return "which leads out of its folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or no file"
    return ""


def fetch_large_files(bundle: Path) -> list[Path]:
    """Download what a bundle's large_files.yml lists, with MONAI, which compares hashes first; returns the files.

    Raises:
        InputError: an entry without a sha256, from elsewhere than the web or to a place outside of the bundle; a
            download that fails or has another hash; a bundle that has no such list.
    """
    entries = [entry for path in sorted(bundle.glob("large_files*")) for entry in read_entries(path)]
    if not entries:
        raise InputError(f"{bundle} has no large_files.yml; its weights are in models/ already, or it is no bundle")
    try:
        download_large_files(str(bundle))
    except HashCheckError as error:
        raise InputError(f"a large file of {bundle.name} has another hash than its list says; do not use it") from error
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"a large file of {bundle.name} cannot be downloaded ({error}); try again later") from error
    files = [bundle / entry["path"] for entry in entries]
    for path, entry in zip(files, entries, strict=True):
        if not path.is_file() or sha256(path) != entry["hash_val"].lower():  # MONAI is silent where it may not write
            raise InputError(f"{path} could not be written; change the rights of its folder")
    return files


def read_entries(path: Path) -> list[dict[str, str]]:
    """The entries of a large_files.yml or .json, after checking them; InputError as `fetch_large_files`."""
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = content["large_files"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of large_files that can be read ({error}); do not use it") from error
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != ENTRY or not all(isinstance(v, str) for v in entry.values()):
            raise InputError(f"{path} has an entry without path, url, hash_val and hash_type alone; complete it")
        if entry["hash_type"] != "sha256" or len(entry["hash_val"]) != 64:
            raise InputError(f"{path} gives no sha256 of {entry['path']}; add it, from a source that you trust")
        if not entry["url"].startswith(("https://", "http://")):
            raise InputError(f"{path} names {entry['url']!a}, which is not on the web; correct the address")
        place = (path.parent / entry["path"]).resolve()
        if not place.is_relative_to(path.parent.resolve() / "models"):
            raise InputError(f"{path} would write {entry['path']!a}, outside of models/; do not use this bundle")
    return entries
