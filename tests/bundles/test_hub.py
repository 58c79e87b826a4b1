"""docs/README.md of each bundle is a model card of the Hugging Face hub, and a push uploads the whole bundle."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from custom.errors import InputError
from scripts.pack import pack

from .conftest import ROOT

huggingface_hub = pytest.importorskip("huggingface_hub")
from huggingface_hub import HfApi, ModelCard  # noqa: E402

from scripts.push import card_of, push  # noqa: E402

BUNDLES = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))
TASKS = {"image-feature-extraction", "image-segmentation", "image-classification"}  # of the hub's list
METRICS = {"mse": "masked loss", "dice": "Dice", "roc_auc": "AUC"}  # and how the card calls them


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All bundles as a release has them."""
    folder = tmp_path_factory.mktemp("dist")
    pack(BUNDLES, folder, checks=())
    return folder


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What reaches the hub, by its path there: everything up to the request is huggingface_hub's own code."""
    content: dict[str, bytes] = {}

    def commit(_: HfApi, repo_id: str, operations: list[Any], **__: Any) -> Any:
        for operation in operations:
            with operation.as_file() as file:
                content[operation.path_in_repo] = file.read()
        return huggingface_hub.CommitInfo(
            commit_url=f"https://huggingface.co/{repo_id}/commit/0", commit_message="", commit_description="", oid="0"
        )

    monkeypatch.setattr("huggingface_hub.hf_api.is_xet_available", lambda: False)  # one commit, not a stream of them
    monkeypatch.setattr(HfApi, "create_repo", lambda *_, **__: None)
    monkeypatch.setattr(HfApi, "create_commit", commit)
    return content


@pytest.mark.parametrize("name", BUNDLES)
def test_the_front_matter_says_what_the_bundle_is(name: str) -> None:
    bundle = ROOT / "bundles" / name
    card = ModelCard.load(bundle / "docs" / "README.md")
    assert card.data.license == "apache-2.0" and "Apache License" in (bundle / "LICENSE").read_text()
    assert card.data.library_name == "monai" and {"monai", "medical"} <= set(card.data.tags)
    assert card.data.pipeline_tag in TASKS
    assert card.data.metrics and all(METRICS[metric] in card.text for metric in card.data.metrics)
    generated = "generated images" in (bundle / "docs" / "data_license.txt").read_text().splitlines()[0]
    assert generated == ("synthetic-data" in card.data.tags) == (not card.data.datasets)
    assert card.text.lstrip().startswith("# ")


@pytest.mark.parametrize("name", BUNDLES)
def test_a_push_uploads_the_whole_bundle_and_nothing_else(name: str, packed: Path, uploads: dict[str, bytes]) -> None:
    for scrap in ("custom/__pycache__/a.pyc", "cache/b.npy", "eval/c.txt"):
        (packed / name / scrap).parent.mkdir(exist_ok=True)
        (packed / name / scrap).write_text("scrap")
    push(f"someone/{name}", name, str(packed))
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "custom").rglob("*.py")}
    code = {path for path in files if not path.startswith("custom/study/")}  # which compares bundles from outside
    kept = {f"{folder}/{path.name}" for folder in ("configs", "docs", "models")
            for path in (ROOT / "bundles" / name / folder).iterdir() if path.is_file()}  # fmt: skip
    assert {"README.md", "LICENSE"} | code | kept <= set(uploads)
    assert not [path for path in uploads if re.search(r"__pycache__|\.pyc$|^cache|^eval|^custom/study", path)]
    for path in (*code, *kept, "LICENSE"):
        assert uploads[path] == (packed / name / path).read_bytes()
    assert json.loads(uploads["configs/metadata.json"])["version"]


@pytest.mark.parametrize("name", BUNDLES)
def test_the_hub_shows_the_card_with_one_front_matter_and_links_that_lead_somewhere(
    name: str, packed: Path, uploads: dict[str, bytes]
) -> None:
    push(f"someone/{name}", name, str(packed))
    shown = ModelCard(uploads["README.md"].decode())
    own = ModelCard.load(packed / name / "docs" / "README.md")
    assert shown.data.to_dict() == own.data.to_dict()
    assert "\n---\n" not in shown.text
    links = re.findall(r"\]\(([^)]+)\)", shown.text)
    assert any(link.endswith(".png") for link in links)
    assert all("://" in link or link in uploads for link in links)


def test_a_push_leaves_the_packed_bundle_as_it_is(uploads: dict[str, bytes], tmp_path: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}

    pack(["unetr_btcv"], tmp_path, checks=())
    before = content()
    push("someone/unetr_btcv", "unetr_btcv", str(tmp_path))
    assert uploads and content() == before


def test_links_out_of_the_bundle_become_text_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.png").write_text("")
    links = "![A](a.png) [B](../../b.md) [C](https://c.org) [D](#d)"
    (tmp_path / "docs" / "README.md").write_text(links)
    assert card_of(tmp_path) == "![A](docs/a.png) B [C](https://c.org) [D](#d)"


def test_a_bundle_that_is_not_packed_is_refused(uploads: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match=r"scripts\.pack unetr_btcv"):
        push("someone/unetr_btcv", "unetr_btcv", str(ROOT / "bundles"))
    assert not uploads
