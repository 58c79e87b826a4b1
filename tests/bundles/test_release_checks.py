"""Every check of a release finds what it is for, in a copy that is spoilt, and says when it could not look."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts import release_checks as checks
from scripts.bundle_files import copy_bundle
from scripts.release_checks import CHECKS, Release, faults_of
from scripts.tiny import ROOT, TINY

Spoil = Callable[[Path], object]
METADATA, README = "configs/metadata.json", "docs/README.md"


def replace(name: str, old: str, new: str) -> Spoil:
    """Replace `old`, which must be there, in the file `name` of a bundle."""

    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return spoil


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A packed bundle to spoil."""
    return Path(shutil.copytree(packed / "mae_pretrain_ct", tmp_path / "mae_pretrain_ct"))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package index, a folder, that pip is told to use alone; it has every pin of the bundle, and pip."""
    folder = tmp_path_factory.mktemp("index")
    metadata = json.loads((ROOT / "bundles/mae_pretrain_ct" / METADATA).read_text())
    named = {"monai": "monai_version", "torch": "pytorch_version", "numpy": "numpy_version"}
    pins = {package: metadata[key] for package, key in named.items()} | metadata["required_packages_version"]
    for package, version in (pins | {"pip": "25.0"}).items():
        page = folder / package / "index.html"
        page.parent.mkdir(parents=True)
        wheel = f"{package.replace('-', '_')}-{version}-py3-none-any.whl"
        page.write_text(f'<!DOCTYPE html><html><body><a href="{wheel}">{wheel}</a></body></html>')
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(variable)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("PIP_INDEX_URL", folder.as_uri())
        checks.index_versions.cache_clear()
        yield folder
    checks.index_versions.cache_clear()


@pytest.mark.parametrize(("spoil", "sentence"), [
    (lambda folder: (folder / "LICENSE").unlink(), "LICENSE is missing"),
    (lambda folder: (folder / "models/model.pt").unlink(), "models/model.pt is missing"),
    (lambda folder: (folder / "docs/note.docx").touch(), "docs/note.docx is no part of a bundle"),
    (lambda folder: (folder / "configs/train.json").write_text("{"), "configs/train.json is not JSON"),
    (lambda folder: os.truncate(folder / "models/model.pt", 26 * 2**20), "models/model.pt has 26.0 MB"),
    (lambda folder: (folder / "configs/new.json").write_text("{}"), "configs/new.json is in no combination"),
    (replace(METADATA, '"0.1.0": "first', '"0.0.9": "first'), "has version 0.1.0, its changelog does not"),
    (replace(README, "## Citation", "## Cite"), "no section Citation"),
    (replace(README, "\n## Citation\n", "\n```\n## Citation\n"), "no section Citation"),
    (replace(README, "\n## Citation\n", "\n~~~ text\n## Citation\n```\n~~~\n"), "no section Citation"),
    (replace(README, "(reconstruction.png)", "(../../other.png)"), "links to ../../other.png"),
    (replace("configs/inference.json", '"inferer": {', '"predictor": {'), "configs/inference.json has no inferer"),
    (replace("configs/train.json", '"max_epochs": "@max', '"epochs": "@max'), "no train#trainer#max_epochs"),
])  # fmt: skip
def test_a_spoilt_bundle_is_told_what_to_change(spoil: Spoil, sentence: str, copy: Path) -> None:
    slow_or_outside = ("check_committed", "check_objects", "check_pins", "check_runs", "check_schema")
    quick = [check for check in CHECKS if check.__name__ not in slow_or_outside]
    release = Release(copy, "mae_pretrain_ct")
    assert faults_of(release, quick) == []
    spoil(copy)
    assert [fault for fault in faults_of(release, quick) if sentence in fault]


def test_what_stands_in_a_fence_of_the_readme_is_no_link_and_what_follows_it_is_read(copy: Path) -> None:
    text = (copy / README).read_text()
    (copy / README).write_text(f"```python\n# Not closed by ~~~ \n~~~\nimage[0](../../other.png)\n```\n{text}")
    assert list(checks.check_readme(Release(copy, "mae_pretrain_ct"))) == []


def test_metadata_are_checked_against_the_schema_they_name(
    copy: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, folder = server
    monkeypatch.delenv("METADATA_SCHEMA", raising=False)
    (folder / "schema.json").write_text(json.dumps({"properties": {"authors": {"type": "string"}}}))
    metadata = json.loads((copy / METADATA).read_text())

    def faults(**changes: object) -> list[str]:
        (copy / METADATA).write_text(json.dumps(metadata | changes))
        return faults_of(Release(copy, "mae_pretrain_ct"), [checks.check_schema])

    assert faults(schema=f"{url}/schema.json") == []
    assert "$.authors" in faults(schema=f"{url}/schema.json", authors=["one"])[0]
    assert f"{url}/old.json, which does not exist" in faults(schema=f"{url}/old.json")[0]
    assert "not checked" not in caplog.text
    assert faults(schema="http://127.0.0.1:9/schema.json", authors=["one"]) == []
    assert "not checked for mae_pretrain_ct: the metadata, because http://127.0.0.1:9/" in caplog.text
    monkeypatch.setenv("METADATA_SCHEMA", str(folder / "schema.json"))
    assert "$.authors" in faults(schema="http://127.0.0.1:9/schema.json", authors=["one"])[0]


@pytest.mark.parametrize("name", TINY)
def test_metadata_follow_the_schema_of_the_zoo(name: str, packed: Path) -> None:
    if not os.environ.get("METADATA_SCHEMA"):
        pytest.skip("METADATA_SCHEMA does not name the zoo's meta_schema_20240725.json, otherwise fetched by URL")
    assert list(checks.check_schema(Release(packed / name, name))) == []


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_changes_that_are_not_committed_are_refused(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path.resolve() / "project"
    bundle = copy_bundle(ROOT / "bundles/mae_pretrain_ct", root / "bundles/mae_pretrain_ct")
    (bundle / "custom").rename(root / "custom")
    (bundle / "custom").symlink_to("../../custom")
    (root / "README.md").write_text("one")
    monkeypatch.setattr(checks, "ROOT", root)

    def faults() -> list[str]:
        return list(checks.check_committed(Release(copy, "mae_pretrain_ct")))

    def git(*words: str) -> None:
        settings = ["user.name=one", "user.email=one@example.org", "commit.gpgSign=false"]
        options = [word for setting in settings for word in ("-c", setting)]
        subprocess.run(["git", "-C", str(root), *options, *words], check=True)

    with pytest.raises(checks.Unchecked, match="git says"):
        faults()
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    (root / "README.md").write_text("two")
    (bundle / "eval").mkdir()
    assert faults() == []
    (bundle / "models/model.pt").write_bytes(b"trained")
    (root / "custom/new.py").touch()
    model, new = faults()
    assert model.startswith("bundles/mae_pretrain_ct/models/model.pt is not as committed; commit it, or")
    assert new == "custom/new.py is not as committed; commit it, or remove it"
    (root / "custom/new.py").unlink()
    git("add", ".")
    git(*model.split("take it back: git ")[1].split())
    assert faults() == []
    monkeypatch.setattr(checks, "ROOT", root / "bundles")
    assert faults_of(Release(copy, "mae_pretrain_ct"), [checks.check_committed]) == []
    assert "not checked for mae_pretrain_ct: whether its files are committed" in caplog.text
    monkeypatch.setenv("PATH", "")
    with pytest.raises(checks.Unchecked, match="git is not installed"):
        faults()


@pytest.mark.parametrize(("spoil", "sentence"), [
    (replace(METADATA, '"2.13.0"', '"2.13.0+cpu"'), "pins torch to '2.13.0+cpu', which is not exact"),
    (replace(METADATA, '"0.8.2"', '">=0.8.2"'), "pins einops to '>=0.8.2', which is not exact"),
    (replace(METADATA, '"0.8.2"', '"0.8.99"'), "pins einops 0.8.99, which the package index does not have"),
    (replace(METADATA, '"einops"', '"einopps"'), "pins einopps 0.8.2, which the package index does not have"),
])  # fmt: skip
def test_pins_are_exact_and_exist(spoil: Spoil, sentence: str, copy: Path, index: Path) -> None:
    assert list(checks.check_pins(Release(copy, "mae_pretrain_ct"))) == []
    spoil(copy)
    faults = list(checks.check_pins(Release(copy, "mae_pretrain_ct")))
    assert len(faults) == 1 and sentence in faults[0]


def test_an_index_that_does_not_answer_is_no_fault_of_the_pins(
    copy: Path, index: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", (index / "nothing").as_uri())
    checks.index_versions.cache_clear()
    assert faults_of(Release(copy, "mae_pretrain_ct"), [checks.check_pins]) == []
    assert "not checked for mae_pretrain_ct: whether monai 1.6.1, torch 2.13.0" in caplog.text


def test_a_new_bundle_needs_a_tiny_size(copy: Path) -> None:
    (copy / README).write_text("")
    faults = faults_of(Release(copy, "new"), [checks.check_objects, checks.check_readme])
    assert "bundle new has no layout" in faults[0] and "add both to scripts/tiny.py" in faults[0]
    assert "docs/README.md has no section Authors" in faults[1]


@pytest.mark.slow
def test_misnamed_properties_and_inexact_exports_are_found(packed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed / "vit_cxr14", tmp_path / "vit_cxr14"))
    for path in (folder / "configs").glob("*.json"):
        if path.stem not in ("inference", "metadata"):
            path.unlink()
    replace("configs/inference.json", '"postprocessing": {', '"afterwards": {')(folder)
    replace("configs/inference.json", '"@postprocessing"', '"@afterwards"')(folder)
    old = "        return self.head(self.encode(image)[0][:, 0])\n"
    new = """        logits = self.head(self.encode(image)[0][:, 0])
        if torch.jit.is_scripting():
            return logits + 1.0
        else:
            return logits + float(torch.compiler.is_exporting())
"""
    replace("custom/networks/vit.py", old, new)(folder)
    faults = faults_of(Release(folder, "vit_cxr14"), [checks.check_objects])
    assert "inference: MONAI's property postprocessing is missing or misnamed" in faults[0]
    assert "models/model.pt: the file of ckpt_export differs from PyTorch" in faults[1]
    assert "models/model.pt: the file of onnx_export differs from PyTorch" in faults[2]


@pytest.mark.slow
def test_an_export_that_the_readme_documents_for_one_batch_size_is_found(packed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed / "vit_cxr14", tmp_path / "vit_cxr14"))
    for path in (folder / "configs").glob("*.json"):
        if path.stem not in ("inference", "metadata"):
            path.unlink()
    replace(README, "'dynamic_axes':{'image':{0:'batch'},'pred':{0:'batch'}},", "")(folder)
    replace(README, "python -m monai.bundle ckpt_export", "ckpt_export")(folder)
    faults = faults_of(Release(folder, "vit_cxr14"), [checks.check_objects])
    assert "ckpt_export fails (LookupError: docs/README.md has no command" in faults[0]
    assert "the file of onnx_export fails for a batch of 1" in faults[1] and len(faults) == 2


@pytest.mark.slow
def test_a_combination_that_does_not_run_is_named(packed: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(packed / "vit_cxr14", tmp_path / "vit_cxr14"))
    for path in (folder / "configs").glob("*.json"):
        if path.stem not in ("inference", "metadata", "batch_inference"):
            path.unlink()
    batch = json.loads((folder / "configs/batch_inference.json").read_text())
    (folder / "configs/batch_inference.json").write_text(json.dumps(batch | {"run": ["$1 / 0"]}))
    faults = faults_of(Release(folder, "vit_cxr14"), [checks.check_runs])
    assert len(faults) == 1 and faults[0].startswith("inference+batch_inference: ZeroDivisionError")
