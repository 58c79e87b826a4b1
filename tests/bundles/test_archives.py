"""Archives are unzipped whole or not at all, and only after everything about them has been checked."""

from __future__ import annotations

import hashlib
import json
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
from scripts.archives import fetch_large_files, unzip
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


@pytest.fixture
def hosted(server: tuple[str, Path], tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A bundle without its weights, and the entry of large_files.yml that leads to them."""
    url, folder = server
    (folder / "model.pt").write_bytes(WEIGHTS)
    (tmp_path / "bundle").mkdir()
    entry = {"path": "models/model.pt", "url": f"{url}/model.pt", "hash_type": "sha256"}
    return tmp_path / "bundle", entry | {"hash_val": hashlib.sha256(WEIGHTS).hexdigest()}


def list_files(bundle: Path, *entries: object, name: str = "large_files.yml") -> None:
    (bundle / name).write_text(json.dumps({"large_files": entries}))  # which is YAML as well


def test_large_files_arrive_and_are_checked_again_when_they_are_there(hosted: tuple[Path, dict[str, str]]) -> None:
    bundle, entry = hosted
    list_files(bundle, entry)
    assert fetch_large_files(bundle) == [bundle / "models/model.pt"] == fetch_large_files(bundle)
    assert (bundle / "models/model.pt").read_bytes() == WEIGHTS
    (bundle / "models/model.pt").write_bytes(WEIGHTS[1:])
    with pytest.raises(InputError, match="another hash"):
        fetch_large_files(bundle)


def test_a_release_whose_weights_cannot_be_fetched_is_not_there_at_all(
    hosted: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    entry = hosted[1]
    for name, content in (("good", entry), ("bad", entry | {"hash_val": "0" * 64})):
        listed = json.dumps({"large_files": [content]}).encode()
        write_zip(tmp_path / f"{name}.zip", [("bundle/large_files.yml", listed)])
    with pytest.raises(InputError, match="another hash"):
        unzip(tmp_path / "bad.zip", tmp_path / "out", fetch=True)
    assert not list((tmp_path / "out").iterdir())
    assert (unzip(tmp_path / "good.zip", tmp_path / "out", fetch=True) / entry["path"]).read_bytes() == WEIGHTS


@pytest.mark.parametrize(("change", "words"), [
    ({"hash_val": "0" * 64}, "another hash"),
    ({"hash_val": ""}, "no sha256"),
    ({"hash_type": "md5", "hash_val": hashlib.md5(WEIGHTS).hexdigest()}, "no sha256"),
    ({"hash_val": None}, "complete it"),
    ({"path": "../out.pt"}, "outside of models"),
    ({"path": "/absolute/out.pt"}, "outside of models"),
    ({"path": "models/a\0b"}, "outside of models"),
    ({"path": "custom/__init__.py"}, "outside of models"),
    ({"path": "configs/inference.json"}, "outside of models"),
    ({"url": "file:///etc/hostname"}, "not on the web"),
    ({"url": "http://127.0.0.1:9/none.pt"}, "cannot be downloaded"),
    ({"quiet": "no"}, "complete it"),
])  # fmt: skip
@pytest.mark.parametrize("name", ["large_files.yml", "large_files.json"])
def test_a_large_file_that_is_not_what_it_should_be_never_arrives(
    name: str, change: dict[str, object], words: str, hosted: tuple[Path, dict[str, str]]
) -> None:
    bundle, entry = hosted
    list_files(bundle, entry | change, name=name)
    with pytest.raises(InputError, match=words):
        fetch_large_files(bundle)
    assert {path.name for path in bundle.rglob("*") if path.is_file()} == {name}


def test_a_link_inside_a_bundle_leads_no_download_out_of_it(hosted: tuple[Path, dict[str, str]]) -> None:
    bundle, entry = hosted
    (bundle.parent / "elsewhere").mkdir()
    (bundle / "models").symlink_to(bundle.parent / "elsewhere")
    list_files(bundle, entry)
    with pytest.raises(InputError, match="outside of models"):
        fetch_large_files(bundle)
    assert not list((bundle.parent / "elsewhere").iterdir())


def test_what_is_downloaded_is_what_was_checked(hosted: tuple[Path, dict[str, str]]) -> None:
    """MONAI's own reader of such lists adds to a list by `+large_files` and changes it by `large_files#0#url`."""
    bundle, entry = hosted
    evil = {"path": "custom/evil.py", "url": (bundle.parent / "evil.py").as_uri()}
    (bundle.parent / "evil.py").touch()
    (bundle / "large_files.yml").write_text(json.dumps({"large_files": [entry], "+large_files": [evil]}))
    with pytest.raises(InputError, match="nothing else"):
        fetch_large_files(bundle)
    assert {path.name for path in bundle.rglob("*") if path.is_file()} == {"large_files.yml"}


@pytest.mark.parametrize(
    "content", [b"large_files: null", b"large_files: 3", b"[" * 100_000, b"\xff\xfe", b"large_files: [1]"]
)
def test_a_list_that_cannot_be_read_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "large_files.yml").write_bytes(content)
    with pytest.raises(InputError):
        fetch_large_files(tmp_path)


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


def test_a_list_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no large_files\.yml"):
        fetch_large_files(tmp_path)
    (tmp_path / "large_files.yml").write_text("!!python/object/apply:os.system ['touch ran']")
    with pytest.raises(InputError, match="no list of large_files"):
        fetch_large_files(tmp_path)
