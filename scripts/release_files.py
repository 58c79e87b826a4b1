"""What a release is as files: its archive, its checksum, and the folder of releases that both go to."""

from __future__ import annotations

import hashlib
import logging
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from custom.errors import InputError
from custom.files import replacing

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold

logger = logging.getLogger(__name__)


def write_archive(folder: Path, archive: Path) -> Path:
    """The folder as a zip: files in order of their paths, with the same time and mode everywhere."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix()):
            info = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            packed.writestr(info, path.read_bytes())
    return archive


def refuse_target(target: Path, root: Path) -> None:
    """InputError unless the folder `target` can be made, or replaced, without loss to the project in `root`."""
    advice = "give another --output_dir or --as"
    if target.is_symlink():
        raise InputError(f"{target} is a link, whose folder would be replaced; remove it, or {advice}")
    place = target.resolve()
    for source in (root / "bundles", root / "custom"):
        if place.is_relative_to(source.resolve()) or source.resolve().is_relative_to(place):
            raise InputError(f"a release in {target} would replace files of {source}; {advice}")
    if target.exists() and not (target / "configs" / "metadata.json").is_file():
        raise InputError(f"{target} exists and is no release, it has no configs/metadata.json; move it, or {advice}")


def publish(folder: Path, archive: Path, output_dir: Path) -> Path:
    """Move folder and archive to `output_dir`, and write the archive's sha256 beside it."""
    moved = output_dir / archive.name
    line = f"{sha256(archive)}  {archive.name}\n"
    with replacing(moved) as unfinished, replacing(moved.with_name(f"{moved.name}.sha256")) as unfinished_line:
        shutil.copyfile(archive, unfinished)
        unfinished_line.write_text(line)
        replace_folder(folder, output_dir / folder.name)  # before the others get their names: all are new, or none is
    logger.info(f"{moved}: {moved.stat().st_size / 2**20:.1f} MB, sha256 {line.split()[0]}")
    return moved


def replace_folder(folder: Path, target: Path) -> None:
    """Move `folder` to `target`, whose old content is deleted once the new one is in its place."""
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as aside:
        new, old = Path(aside) / "new", Path(aside) / "old"
        shutil.move(folder, new)  # may be a copy from another disk, what follows never is
        try:
            if target.exists():
                target.rename(old)
            new.rename(target)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
