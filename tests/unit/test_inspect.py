"""What a bundle would execute is listed, all of it, and not executed."""

import json
import re
from pathlib import Path

import pytest

from custom.errors import InputError
from scripts.inspect import findings, inspect_bundle
from scripts.tiny import ROOT

BUNDLES = ("mae_pretrain_ct", "unetr_btcv", "unetr_brats", "vit_cxr14")


def bundle(folder: Path, config: object, name: str = "train.json") -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / name).write_text(config if isinstance(config, str) else json.dumps(config))
    return folder


@pytest.mark.parametrize("name", BUNDLES)
def test_every_expression_and_target_of_the_shipped_configs_is_listed_and_none_is_marked(name: str) -> None:
    found = list(findings(ROOT / "bundles" / name))
    texts = [path.read_text() for path in (ROOT / "bundles" / name / "configs").glob("*.json")]
    expressions = sum(len(re.findall(r'"\$', text)) for text in texts)
    targets = sum(len(re.findall(r'"_target_": "[^$]', text)) for text in texts)
    kinds = [one.kind for one in found]
    assert (kinds.count("expression"), kinds.count("target")) == (expressions, targets)
    assert [one for one in found if one.reason and one.file != "custom"] == []  # a link in the source only


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"run": "$__import__('os').system('touch {mark}')"}, "uses __import__"),
        ({"run": ["$open('{mark}', 'w')"]}, "uses open"),
        ({"imports": ["$import subprocess"]}, "uses subprocess"),
        (
            {"a": {"b": [{"_target_": "os.system", "command": "touch {mark}"}]}},
            "not called by the configs of this project",
        ),
        ({"a": {"_target_": "custom.evil.run"}}, "not called by the configs of this project"),
        ({"a": {"_target_": "@b"}}, "named elsewhere"),
        ({"a": "$os.execvp('ls', [])"}, "uses execvp"),
        ({"a": "$torch.save(1, '{mark}')"}, "uses save"),
        ({"a": {"_target_": "eval", "source": "1"}}, "Python's eval"),
        ({"a": {"_target_": "torch.hub.load"}}, "not called by the configs of this project"),
        ({"a": "$().__class__"}, "uses __class__"),
        ({"a": "$this is no Python"}, "not understood"),
        ({"a": "%other.json#network"}, "reads another file"),
    ],
)
def test_what_deserves_a_look_is_marked_and_not_run(content: object, reason: str, tmp_path: Path) -> None:
    text = json.dumps(content).replace("{mark}", str(tmp_path / "mark"))
    (one,) = findings(bundle(tmp_path / "bundle", text))
    assert one.reason == reason and not (tmp_path / "mark").exists()


def test_code_outside_of_the_configs_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = bundle(tmp_path / "bundle", {"a": "$1 + 1"})
    (folder / "configs" / "logging.conf").write_text("[handler_x]\nclass=FileHandler\nargs=(open('x'),)\n")
    (folder / "own.py").write_text("")
    (folder / "custom").mkdir()
    (folder / "custom" / "evil.py").write_text("")
    (folder / "custom" / "errors.py").write_bytes((ROOT / "custom" / "errors.py").read_bytes())
    (folder / "configs" / "deep").mkdir()
    (folder / "configs" / "deep" / "more.json").write_text('{"a": "$eval(1)", "b": "$1\\u001b[2K"}')
    (folder / "model.ts").write_bytes(b"")
    (folder / "link").symlink_to(tmp_path)
    (folder / "large_files.yml").write_text("large_files:\n- path: models/model.pt\n  url: https://example.com\n")
    inspect_bundle(str(folder), marked=True)
    out = capsys.readouterr().out
    assert out.count("<-") == 9 and "9 marked" in out and "\x1b" not in out and "$1 + 1" not in out
    for reason in (
        "evaluated by Python",
        "not this project's",
        "when it is loaded",
        "outside of the bundle",
        "without a hash",
    ):
        assert reason in out
    inspect_bundle(str(folder))
    assert "$1 + 1" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "text"), [("train.json", "{"), ("train.yaml", "a: ["), ("train.json", "[" * 10**5)])
def test_a_config_that_cannot_be_read_is_one_sentence(name: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not run it"):
        list(findings(bundle(tmp_path / "bundle", text, name)))
    with pytest.raises(InputError, match="give the folder of a bundle"):
        list(findings(tmp_path / "bundle" / "docs"))
