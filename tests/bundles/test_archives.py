"""Archives are unzipped whole or not at all, and only after everything about them has been checked."""

from __future__ import annotations

import hashlib
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from custom.errors import InputError
from scripts.archives import unzip
from scripts.tiny import ROOT
from scripts.unpack import unpack

WEIGHTS = b"weights" * 1000
Members = list[tuple[str | zipfile.ZipInfo, bytes]]


def write_zip(path: Path, members: Members, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that come twice
        for name, content in [("bundle/configs/metadata.json", b"{}"), *members]:
            file.writestr(name, content)
    return path


def special(name: str, kind: int, system: int = 3) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = system, (kind | 0o777) << 16
    return member


def overwritten(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    return path


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-30])
    return path


def cut_inside(path: Path) -> Path:
    """The directory at its end is whole, bytes of a member before it are not what it promises."""
    return overwritten(path, WEIGHTS[:700], b"x" * 700)


def claiming(path: Path) -> Path:
    """A directory that promises a gigabyte of what holds 7,000 bytes."""
    size = struct.pack("<I", len(WEIGHTS))
    return overwritten(path, size * 2, size + struct.pack("<I", 2**30))


def overlapping(path: Path) -> Path:
    """Two members that share the bytes of one."""
    write_zip(path, [("bundle/a", WEIGHTS), ("bundle/b", WEIGHTS)])
    with zipfile.ZipFile(path) as file:
        offset = file.getinfo("bundle/b").header_offset
    content, at = path.read_bytes(), path.read_bytes().rindex(struct.pack("<I", offset) + b"bundle/b")
    first = content.index(b"PK\3\4", 1)
    path.write_bytes(content[:at] + struct.pack("<I", first) + content[at + 4 :])
    return path


SOUND = [("bundle/models/model.pt", WEIGHTS)]
ATTACKS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "parent": (lambda p: write_zip(p, [("bundle/../../out.txt", b"x")]), "leads out"),
    "parent first": (lambda p: write_zip(p, [("../out.txt", b"x")]), "leads out"),
    "absolute": (lambda p: write_zip(p, [("/absolute/out.txt", b"x")]), "leads out"),
    "drive": (lambda p: write_zip(p, [("C:/out.txt", b"x")]), "leads out"),
    "backslash": (lambda p: write_zip(p, [("bundle\\..\\out.txt", b"x")]), "leads out"),
    "zero byte": (lambda p: overwritten(write_zip(p, [("bundle/axb", b"")]), b"axb", b"a\0b"), "no name of a file"),
    "link": (lambda p: write_zip(p, [(special("bundle/out", stat.S_IFLNK), b"/etc")]), "a link"),
    "link of another system": (lambda p: write_zip(p, [(special("bundle/o", stat.S_IFLNK, 0), b"/")]), "a link"),
    "link, then a file in it": (
        lambda p: write_zip(p, [(special("bundle/o", stat.S_IFLNK), b".."), ("bundle/o/out.txt", b"x")]), "a link",
    ),
    "device": (lambda p: write_zip(p, [(special("bundle/out", stat.S_IFCHR), b"")]), "no file"),
    "twice": (lambda p: write_zip(p, [("bundle/a.py", b"1"), ("bundle/a.py", b"2")]), "twice"),
    "twice but for case": (lambda p: write_zip(p, [("bundle/a.py", b"1"), ("bundle/A.py", b"2")]), "twice"),
    "bomb": (
        lambda p: write_zip(p, [("bundle/zeros", bytes(30 * 2**20))], zipfile.ZIP_DEFLATED), "20 times its size",
    ),
    "claim": (lambda p: claiming(write_zip(p, SOUND)), "20 times its size"),
    "overlap": (overlapping, "no whole zip"),
    "truncated": (lambda p: truncated(write_zip(p, SOUND)), "no whole zip"),
    "damaged": (lambda p: cut_inside(write_zip(p, SOUND)), "no whole zip"),
    "text": (lambda p: p.write_text("404 not found") and p, "no whole zip"),
    "another packing": (lambda p: write_zip(p, SOUND, zipfile.ZIP_BZIP2), "unusual"),
    "a file that is a folder too": (lambda p: write_zip(p, [("bundle/a", b""), ("bundle/a/b", b"")]), "inside of"),
    "a name of two lines": (lambda p: write_zip(p, [("bundle/a\nb", b"")]), "no name of a file"),
    "a name too long": (lambda p: write_zip(p, [("bundle/" + "a" * 300, b"")]), "cannot be unzipped"),
    "two folders": (lambda p: write_zip(p, [("other/a", b"")]), "one folder"),
    "absent": (lambda p: p, "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_one_sentence_and_leaves_nothing(attack: str, tmp_path: Path) -> None:
    make, words = ATTACKS[attack]
    archive = make(tmp_path / "in.zip")
    with pytest.raises(InputError, match=words) as caught:
        unzip(archive, tmp_path / "deep" / "out")
    assert "\n" not in str(caught.value)
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert left - {"in.zip", "deep", "deep/out"} == set()


def test_a_sound_archive_is_unzipped_once_and_never_over_a_folder(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "in.zip", [*SOUND, ("bundle/empty/", b"")], zipfile.ZIP_DEFLATED)
    folder = unzip(archive, tmp_path / "out", hashlib.sha256(archive.read_bytes()).hexdigest().upper())
    assert folder == tmp_path / "out" / "bundle" and (folder / "models" / "model.pt").read_bytes() == WEIGHTS
    (folder / "mine.txt").touch()
    with pytest.raises(InputError, match="exists; move it away"):
        unzip(archive, tmp_path / "out")
    assert (folder / "mine.txt").is_file() and [path.name for path in (tmp_path / "out").iterdir()] == ["bundle"]


def test_another_hash_is_refused_before_the_archive_is_opened(tmp_path: Path) -> None:
    archive = tmp_path / "in.zip"
    archive.write_text("no zip at all")
    with pytest.raises(InputError, match="another sha256"):
        unzip(archive, tmp_path / "out", "0" * 64)
    assert not (tmp_path / "out").exists()


def test_unpacking_wants_a_hash_and_takes_the_one_beside_the_archive(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "in.zip", SOUND)
    with pytest.raises(InputError, match="nothing says which sha256"):
        unpack(str(archive), str(tmp_path / "out"))
    line = f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  in.zip\n"
    archive.with_name("in.zip.sha256").write_text(line)
    assert unpack(str(archive), str(tmp_path / "out")) == str(tmp_path / "out" / "bundle")
    overwritten(archive, b"weights", b"Weights")
    with pytest.raises(InputError, match="another sha256"):
        unpack(str(archive), str(tmp_path / "again"))


def test_the_command_line_says_one_sentence(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "in.zip", [("../out.txt", b"x")])
    command = [sys.executable, "-m", "scripts.unpack", str(archive), str(tmp_path / "out")]
    command += ["--sha256", hashlib.sha256(archive.read_bytes()).hexdigest()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "leads out of its folder" in done.stderr


def test_a_hash_that_is_no_text_and_a_folder_that_is_a_file_are_one_sentence(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "in.zip", SOUND)
    (tmp_path / "in.zip.sha256").write_bytes(b"\xff\xfe\0")
    with pytest.raises(InputError, match="cannot be read as text"):
        unpack(str(archive), str(tmp_path / "out"))
    with pytest.raises(InputError, match="choose another folder"):
        unzip(archive, archive)


@pytest.mark.parametrize(("sha256", "words"), [("0123", "is no sha256"), ("True", "is no sha256")])
def test_a_hash_that_is_none_is_refused(sha256: str, words: str, tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "in.zip", SOUND)
    with pytest.raises(InputError, match=words):
        unpack(str(archive), str(tmp_path / "out"), sha256)
    with pytest.raises(InputError, match="does not exist"):
        unpack(str(tmp_path / "none.zip"), str(tmp_path / "out"))
