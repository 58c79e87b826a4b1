"""What MONAI Label is given: bundles under names it understands, and never old weights under new configs."""

import json
import socket
from pathlib import Path

import pytest
import torch

from custom.errors import InputError
from scripts.label import label
from scripts.label_bundles import add_bundle, add_bundles, name_for_label

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle of the fewest files, with a link for its code as in this project."""
    (tmp_path / "custom").mkdir()
    (tmp_path / "custom" / "__init__.py").touch()
    folder = tmp_path / "sources" / "organs"
    for name in ("configs", "models", "eval"):
        (folder / name).mkdir(parents=True)
    (folder / "custom").symlink_to(tmp_path / "custom")
    (folder / "eval" / "patient.png").touch()
    torch.save({"model": {}}, folder / "models" / "model.pt")
    pred = {"format": "segmentation", "channel_def": {"0": "background", "1": "liver"}}
    metadata = {"network_data_format": {"outputs": {"pred": pred}}}
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    (folder / "configs" / "train.json").write_text("{}")
    return folder


def train(copy: Path) -> bytes:
    """What MONAI Label's training does to a copy; returns the new weights."""
    torch.save({"model": {"trained": torch.ones(1)}}, copy / "models" / "model.pt")
    return (copy / "models" / "model.pt").read_bytes()


def test_a_copy_stands_on_its_own_and_has_nothing_of_earlier_runs(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "app" / add_bundle(bundle, tmp_path / "app")
    assert (copy / "custom" / "__init__.py").is_file() and not (copy / "custom").is_symlink()
    assert not (copy / "eval").exists()
    assert [path.name for path in (tmp_path / "app").iterdir()] == ["organs"]


def test_trained_weights_stay_while_the_source_is_the_same(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "app" / add_bundle(bundle, tmp_path / "app")
    trained = train(copy)
    add_bundle(bundle, tmp_path / "app")
    assert (copy / "models" / "model.pt").read_bytes() == trained


def test_trained_weights_are_not_given_other_configs(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "app" / add_bundle(bundle, tmp_path / "app")
    trained = train(copy)
    (bundle / "configs" / "train.json").write_text('{"spacing": [2, 2, 2]}')
    with pytest.raises(InputError, match=r"trained there, and .* has changed since; move it away"):
        add_bundle(bundle, tmp_path / "app")
    assert (copy / "models" / "model.pt").read_bytes() == trained


def test_untrained_weights_follow_the_source(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "app" / add_bundle(bundle, tmp_path / "app")
    torch.save({"model": {"new": torch.ones(1)}}, bundle / "models" / "model.pt")
    add_bundle(bundle, tmp_path / "app")
    assert (copy / "models" / "model.pt").read_bytes() == (bundle / "models" / "model.pt").read_bytes()


@pytest.mark.parametrize(("name", "output", "expected"), [
    ("unetr_btcv", "segmentation", "unetr_btcv"),
    ("vit_cxr14", "classes", "vit_cxr14_classification"),
    ("chest_classification", "classes", "chest_classification"),
    ("after_classification", "segmentation", "after_classification_segmentation"),
    ("ct_encoder", "hounsfield", "ct_encoder"),
])  # fmt: skip
def test_the_name_tells_the_task(name: str, output: str, expected: str) -> None:
    assert name_for_label(name, output) == expected


def test_a_name_of_another_task_is_refused() -> None:
    with pytest.raises(InputError, match="lesion_detection for another task; rename"):
        name_for_label("lesion_detection", "segmentation")


def test_of_this_collection_each_is_offered_for_what_it_can_do(tmp_path: Path) -> None:
    names = add_bundles(tmp_path)
    configs = {name: {path.stem for path in (tmp_path / name / "configs").glob("*.json")} for name in names}
    assert names == ["unetr_btcv", "unetr_brats", "vit_cxr14_classification", "mae_pretrain_ct"]
    assert [name for name in names if "inference" in configs[name]] == names[:3]
    assert [name for name in names if "train" in configs[name]] == [*names[:2], names[3]]
    pred = json.loads((tmp_path / "unetr_brats/configs/metadata.json").read_text())["network_data_format"]["outputs"]
    assert pred["pred"]["channel_def"]["1"] == "oedema"


def test_what_is_no_bundle_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no bundle"):
        add_bundles(tmp_path / "app", f"{ROOT / 'bundles' / 'unetr_btcv'},{tmp_path}")


def test_a_folder_that_is_no_copy_is_left_alone(bundle: Path, tmp_path: Path) -> None:
    mine = tmp_path / "app" / "organs" / "models" / "model.pt"
    mine.parent.mkdir(parents=True)
    mine.write_text("weights of someone's own")
    with pytest.raises(InputError, match="was not made by this command"):
        add_bundle(bundle, tmp_path / "app")
    assert mine.read_text() == "weights of someone's own"


def test_a_port_in_use_or_none_and_a_missing_folder_are_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for options, sentence in (
            ({"port": port}, f"port {port} of 127.0.0.1 cannot be used"),
            ({"port": "abc"}, "port abc is not a number"),
            ({"studies": str(tmp_path / "none")}, "none is not a folder"),
        ):
            with pytest.raises(InputError, match=sentence):
                label(output_dir=str(tmp_path / "label"), **options)
    assert not (tmp_path / "label").exists()
