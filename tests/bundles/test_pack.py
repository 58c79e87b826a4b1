"""A release is what the tests ran, is the same byte for byte whenever it is packed, and is refused with any fault."""

import hashlib
import re
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from monai.apps.utils import HashCheckError
from monai.bundle import download_large_files

from custom.errors import InputError
from scripts import release_checks as checks
from scripts.bundle_files import copy_bundle
from scripts.pack import main, pack
from scripts.release_checks import CHECKS, Release, faults_of
from scripts.release_configs import run_faults
from scripts.tiny import ROOT, TINY

METADATA, README = "configs/metadata.json", "docs/README.md"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def replace(path: Path, old: str, new: str) -> None:
    """Replace `old`, which must be there, in a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project to spoil, which is the working folder."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "custom", root / "custom", ignore=shutil.ignore_patterns("__pycache__"))
    for name in TINY:
        copy_bundle(ROOT / "bundles" / name, root / "bundles" / name, ["custom"])
        (root / "bundles" / name / "custom").symlink_to("../../custom")
    monkeypatch.setattr("scripts.pack.ROOT", root)
    monkeypatch.chdir(root)
    return root


def test_a_copy_of_a_bundle_has_its_code_and_nothing_that_runs_left(tmp_path: Path) -> None:
    source, target = ROOT / "bundles/vit_cxr14", tmp_path / "own"
    spoilt = copy_bundle(source, tmp_path / "spoilt")
    for name in ("eval/metrics.csv", "cache/a.pt", "logs/a.txt", "custom/__pycache__/a.py", "custom/networks/a.pyc"):
        (spoilt / name).parent.mkdir(parents=True, exist_ok=True)
        (spoilt / name).touch()
    kept = ("LICENSE", "configs/", "models/")
    expected = {name: text for name, text in contents(source).items() if name.startswith(kept)}
    paths = [path for path in ROOT.glob("custom/**/*.py") if path.parent.name != "study"]  # compares from outside
    code = {f"custom/{path.relative_to(ROOT / 'custom')}": path.read_bytes() for path in paths}
    assert contents(copy_bundle(spoilt, target, ["docs"])) == expected | code
    assert not any(path.is_symlink() for path in target.rglob("*"))


def test_archives_are_the_same_byte_for_byte_and_equal_to_their_folder(tmp_path: Path) -> None:
    first, second = (pack(["unetr_btcv"], tmp_path / place, checks=())[0] for place in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as file:
        unzipped = {name.removeprefix("unetr_btcv/"): file.read(name) for name in file.namelist()}
        assert {stat.S_IMODE(info.external_attr >> 16) for info in file.infolist()} == {0o644}
    assert unzipped == contents(tmp_path / "a/unetr_btcv")
    assert unzipped["custom/networks/unetr.py"] == (ROOT / "custom/networks/unetr.py").read_bytes()
    assert unzipped["models/model.pt"] == (ROOT / "bundles/unetr_btcv/models/model.pt").read_bytes()
    assert not any("__pycache__" in name for name in unzipped)
    assert not any(path.is_symlink() for path in (tmp_path / "a").rglob("*"))
    line = (tmp_path / "a" / f"{first.name}.sha256").read_text()
    assert line == f"{hashlib.sha256(first.read_bytes()).hexdigest()}  {first.name}\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_check_passes_on_the_unzipped_copy(name: str, packed: Path) -> None:
    """Runs are the next test's; what needs a network or a commit is asked of made ones in test_release_checks.py."""
    before = contents(packed / name)
    elsewhere = (checks.check_committed, checks.check_pins, checks.check_schema, checks.check_runs)
    offline = [check for check in CHECKS if check not in elsewhere]
    assert faults_of(Release(packed / name, name), offline) == []
    assert contents(packed / name) == before  # checks leave no trace


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_every_config_combination_runs_on_the_unzipped_copy(
    name: str, packed: Path, datasets: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From /, with the project out of reach; PYTHONPATH is set here to show that it is not passed on."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    assert run_faults(packed / name, name, datasets[name]) == []


def test_every_fault_of_every_bundle_is_named_and_nothing_is_written(project: Path) -> None:
    """Of three bundles the first is sound."""
    replace(project / "bundles/unetr_btcv" / README, "## Citation", "## Cite")
    replace(project / "bundles/unetr_btcv" / METADATA, '"version": "0.1.0"', '"version": "0.2.0"')
    replace(project / "bundles/vit_cxr14" / METADATA, '"version"', '"edition"')
    names = ["unetr_brats", "unetr_btcv", "vit_cxr14"]
    with pytest.raises(InputError) as caught:
        pack(names, checks=[checks.check_changelog, checks.check_readme])
    told = re.split(r"^(\w+) is not ready to be released:\n", str(caught.value), flags=re.MULTILINE)
    assert told[1::2] == names[1:]
    assert "changelog does not" in told[2] and "no section Citation" in told[2]
    assert "not JSON with a version" in told[4]
    assert not (project / "dist").exists()
    assert [path.name for path in pack(names[:1], checks=[checks.check_readme])] == ["unetr_brats_v0.1.0.zip"]


def test_a_renamed_release_has_its_new_name_everywhere(tmp_path: Path) -> None:
    new = "vit_cxr14_classification"
    archive = pack(["vit_cxr14"], tmp_path, rename=new, checks=[checks.check_readme])[0]
    assert archive.name == f"{new}_v0.1.0.zip"
    assert {name.split("/")[0] for name in zipfile.ZipFile(archive).namelist()} == {new}
    old, text = ((folder / README).read_text() for folder in (ROOT / "bundles/vit_cxr14", tmp_path / new))
    assert text == old.replace("vit_cxr14", new) and f"--bundle_root bundles/{new} " in text


def test_hosted_weights_are_left_out_and_can_be_fetched(tmp_path: Path, server: tuple[str, Path]) -> None:
    url, served = server
    sources = ROOT / "bundles/unetr_brats/models"
    shutil.copytree(sources, served / "unetr_brats/v0.1.0")
    quick = [checks.check_sizes, checks.check_readme]
    archive = pack(["unetr_brats"], tmp_path, weights_url=f"{url}/{{name}}/v{{version}}/", checks=quick)[0]
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "unzipped")
    bundle = tmp_path / "unzipped/unetr_brats"
    assert not list(bundle.rglob("*.pt")) and "download_large_files" in (bundle / README).read_text()
    download_large_files(str(bundle))
    assert contents(bundle / "models") == contents(sources)
    (bundle / "models/model.pt").unlink()
    (served / "unetr_brats/v0.1.0/model.pt").write_bytes(b"other weights")
    with pytest.raises(HashCheckError, match="sha256"):
        download_large_files(str(bundle))


@pytest.mark.parametrize(("words", "sentence"), [
    (["unetr"], "bundle unetr does not exist; choose from mae_pretrain_ct"),
    (["unetr_btcv", "vit_cxr14", "--as", "other"], "--as other is for one bundle"),
    (["vit_cxr14", "--as", "../other"], "letters, digits and _"),
    (["--weights-url", "https://example.org/weights"], "add {name}"),
    (["unetr_btcv", "--weights-url", "example.org/weights"], "is no address; begin it with https://"),
    (["--weights-url", "https://example.org/{name}/{tag}/x"], "{tag}/x: only {name} and {version} are filled in"),
    (["unetr_btcv", "--weights-url", "https://example.org/{}/{version"], "only {name} and {version} are filled in"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["pack", "--output_dir", str(tmp_path / "dist"), *words])
    with pytest.raises(InputError, match=sentence):
        main()
    assert not (tmp_path / "dist").exists()


@pytest.mark.parametrize(("output_dir", "rename", "sentence"), [
    ("bundles", "", "would replace files of .*bundles; give another"),
    ("bundles/vit_cxr14", "new", "would replace files of .*bundles"),
    ("elsewhere/custom/data", "new", "would replace files of .*custom"),
    (".", "custom", "would replace files of .*custom"),
    ("..", "project", "would replace files of .*bundles"),
    (".", "notes", "notes exists and is no release"),
    ("dist", "", "dist/unetr_brats is a link"),
])  # fmt: skip
def test_folders_that_packing_did_not_make_are_not_replaced(
    output_dir: str, rename: str, sentence: str, project: Path
) -> None:
    (project / "notes").mkdir()
    (project / "notes/kept.txt").touch()
    (project / "elsewhere").symlink_to("bundles/vit_cxr14")
    (project / "dist").mkdir()
    copy_bundle(project / "bundles/vit_cxr14", project / "linked")
    (project / "dist/unetr_brats").symlink_to("../linked")
    before = contents(project)
    with pytest.raises(InputError, match=sentence):
        pack(["unetr_brats"], output_dir, rename=rename, checks=())
    assert contents(project) == before


def test_a_release_is_replaced_as_a_whole_or_stays(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(["vit_cxr14"], checks=())
    release, before = project / "dist/vit_cxr14", contents(project / "dist")
    old = contents(release)
    (project / "bundles/vit_cxr14/docs/data_license.txt").write_text("none")
    rename = Path.rename

    def full_disk(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"cannot write .*: No space left on device"):
        patch.setattr(Path, "rename", full_disk)
        pack(["vit_cxr14"], checks=())
    assert contents(project / "dist") == before
    (release / "old.txt").touch()
    pack(["vit_cxr14"], checks=())
    assert contents(release) == old | {"docs/data_license.txt": b"none"}
    assert {path.name.split("_v")[0] for path in (project / "dist").iterdir()} == {"vit_cxr14"}
