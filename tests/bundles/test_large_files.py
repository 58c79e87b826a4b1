"""Weights that a bundle's list of large files names are fetched and checked, or not there at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from custom.errors import InputError
from scripts.archives import fetch_large_files, unzip

from .test_archives import WEIGHTS, write_zip


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


def test_a_list_that_says_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no large_files\.yml"):
        fetch_large_files(tmp_path)
    (tmp_path / "large_files.yml").write_text("!!python/object/apply:os.system ['touch ran']")
    with pytest.raises(InputError, match="no list of large_files"):
        fetch_large_files(tmp_path)
