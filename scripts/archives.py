"""Archives and hosted weights, checked before anything of them is used."""

from __future__ import annotations

import hashlib
import stat
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from struct import error as StructError
from tempfile import TemporaryDirectory
from typing import IO, Any

import yaml
from monai.apps.utils import HashCheckError, download_url

from custom.errors import InputError
from custom.files import read_text

from .release_files import sha256

MOST_GROWTH, SLACK = 20, 2**20  # an archive that claims to hold more than 20 times its size is refused
PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
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
    try:
        with archive.open("rb") as file:  # once, so that what is unzipped is what was compared
            if expected and hashlib.file_digest(file, "sha256").hexdigest() != expected.lower():
                raise InputError(
                    f"{archive} has another sha256 than {expected}; download it again, do not use this one"
                )
            output_dir.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=output_dir, prefix=".unzipping.") as scratch:
                folder = unzip_checked(file, archive, Path(scratch))
                target = output_dir / folder.name
                if target.exists() or target.is_symlink():
                    raise InputError(f"{target} exists; move it away, or unzip to another folder")
                if fetch:
                    fetch_large_files(folder)
                folder.rename(target)
    except OSError as error:
        raise InputError(f"{archive} cannot be unzipped to {output_dir} ({error}); choose another folder") from error
    return target


def unzip_checked(file: IO[bytes], archive: Path, scratch: Path) -> Path:
    """Unzip to an empty folder after checking every member; InputError as `unzip`."""
    try:
        with zipfile.ZipFile(file) as members:
            top = check_members(members.infolist(), archive)
            members.extractall(scratch)
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{archive} is no whole zip without a password ({error}); download it again") from error
    return scratch / top


def check_members(members: Sequence[zipfile.ZipInfo], archive: Path) -> str:
    """The name of the one folder that all members are in; InputError for members as `unzip` refuses them."""
    names: dict[str, bool] = {}  # and whether it is a folder
    for member in members:
        name = member.filename.rstrip("/").casefold()
        if fault := fault_of(member) or ("twice" if name in names else ""):
            raise InputError(f"{archive} holds {member.orig_filename!a}, {fault}; do not use this archive")
        names[name] = member.is_dir()
    parents = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    if inside := [name for name in parents if not names.get(name, True)]:
        raise InputError(f"{archive} holds members inside of {inside[0]!a}, a file; do not use this archive")
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
    if any(part != part.rstrip(". ") or not part for part in parts) or "\\" in name or ":" in name:
        return "which leads out of its folder"
    if not name.isprintable():
        return "which is no name of a file"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "which is a link or no file"
    return "" if member.compress_type in PACKED else "which is packed in an unusual way"


def fetch_large_files(bundle: Path) -> list[Path]:
    """Download what a bundle's large_files.yml lists, with MONAI, which compares hashes first; returns the files.

    Raises:
        InputError: an entry without a sha256, from elsewhere than the web or to a place outside of the bundle; a
            download that fails or has another hash; a bundle that has no such list.
    """
    entries = [entry for path in sorted(bundle.glob("large_files*")) for entry in read_entries(path)]
    if not entries:
        raise InputError(f"{bundle.name} has no large_files.yml; its weights are in models/, or it is no bundle")
    for entry in entries:
        path, expected = bundle / entry["path"], entry["hash_val"].lower()
        try:
            download_url(entry["url"], path, hash_val=expected, hash_type="sha256")
        except HashCheckError as error:
            raise InputError(
                f"{entry['path']} of {bundle.name} has another hash than is listed; do not use it"
            ) from error
        except (RuntimeError, OSError, ValueError) as error:
            raise InputError(
                f"{entry['path']} of {bundle.name} cannot be downloaded ({error}); try again later"
            ) from error
        if not path.is_file() or sha256(path) != expected:  # MONAI is silent where it may not write
            raise InputError(f"{path} could not be written; change the rights of its folder")
    return [bundle / entry["path"] for entry in entries]


def read_entries(path: Path) -> list[dict[str, str]]:
    """The entries of a large_files.yml or .json, after checking them; InputError as `fetch_large_files`."""
    try:
        content = yaml.safe_load(read_text(path))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is no list of large_files that can be read ({error}); do not use it") from error
    listed = isinstance(content, dict) and set(content) == {"large_files"} and isinstance(content["large_files"], list)
    if not listed:
        raise InputError(f"{path} is no list of large_files and nothing else; do not use it")
    for entry in content["large_files"]:
        check_entry(entry, path)
    return content["large_files"]


def check_entry(entry: Any, path: Path) -> None:
    """InputError for an entry of the list at `path` that says less or more than a file, its address and its hash."""
    if not isinstance(entry, dict) or set(entry) != ENTRY or not all(isinstance(v, str) for v in entry.values()):
        raise InputError(f"{path} has an entry without path, url, hash_val and hash_type alone; complete it")
    if entry["hash_type"] != "sha256" or len(entry["hash_val"]) != 64:
        raise InputError(f"{path} gives no sha256 of {entry['path']}; add it, from a source that you trust")
    if not entry["url"].startswith(("https://", "http://")):
        raise InputError(f"{path} names {entry['url']!a}, which is not on the web; correct the address")
    models = path.parent.resolve() / "models"
    if not entry["path"].isprintable() or not (path.parent / entry["path"]).resolve().is_relative_to(models):
        raise InputError(f"{path} would write {entry['path']!a}, outside of models/; do not use this bundle")
