"""The comparison from one command, on phantoms, for each bundle; killed and run again."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from custom.errors import InputError
from custom.study.compare import run_comparison
from custom.study.settings import Settings, read_settings
from scripts.tiny import LAYOUTS, NETWORK, ROOT, SPACING, write_data

DECODER = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
SMALL = {
    "unetr_btcv": (NETWORK | SPACING, {"feature_size": 4, "validation_cases": 2, "overlap": 0.0}),
    "unetr_brats": (NETWORK | SPACING, {"feature_size": 4, "validation_cases": 2, "overlap": 0.0}),
    "vit_cxr14": (NETWORK | {"img_size": 32}, {"validation_fraction": 0.3}),
}


def tiny_settings(name: str, data: Path, **more: object) -> Settings:
    shared, fine_tuning = SMALL[name]
    given = {"bundle": str(ROOT / "bundles" / name), "dataset_dir": str(data), "seeds": 2, "validations": 2}
    given |= {"shared": shared | {"num_workers": 0}, "pretraining": DECODER, "fine_tuning": fine_tuning}
    given |= {"pretraining_steps": 6, "steps": 6, "learning_rates": (1e-3, 3e-3)}
    return read_settings(**(given | more))


@pytest.fixture(scope="module", params=list(SMALL))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[str]]:
    folder = tmp_path_factory.mktemp(request.param)
    data = write_data(LAYOUTS[request.param], folder / "data")
    settings = tiny_settings(request.param, data, cases=(3, 0) if request.param == "unetr_btcv" else (0,))
    lines: list[str] = []
    run_comparison(settings, folder / "out", 2, lines.append)
    return request.param, folder, lines


@pytest.mark.slow
def test_every_arm_is_scored_on_the_same_cases(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    with (folder / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    scored: dict[tuple, list] = {}
    for row in rows:
        key = tuple(row[name] for name in ("arm", "cases", "seed", "checkpoint"))
        scored.setdefault(key, []).append((row["case"], row["class"], row["truth"]))
    assert {key[0] for key in scored} == {"scratch", "self", "scratch_long", "broken", "pixels"}
    assert len({tuple(cases) for cases in scored.values()}) == 1


@pytest.mark.slow
def test_the_report_says_what_the_summary_says(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    page, summary = (folder / "out" / name for name in ("report.html", "summary.json"))
    answer = json.loads(summary.read_text())["answer"]
    assert answer.startswith("On these") and "self pre-training changes mean" in answer
    assert answer.replace("'", "&#39;") in page.read_text() and str(folder) not in page.read_text()


@pytest.mark.slow
def test_the_same_command_does_nothing_again(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, first = finished
    settings = json.loads((folder / "out" / "settings.json").read_text())
    lines: list[str] = []
    run_comparison(read_settings(**settings), folder / "out", 2, lines.append)
    assert first and not lines
    with pytest.raises(InputError, match="another steps"):
        run_comparison(read_settings(**{**settings, "steps": 7}), folder / "out", 2, lines.append)


@pytest.mark.slow
def test_pretraining_is_given_no_labels_and_no_test_images(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    lists = {path.stem: json.loads(path.read_text()) for path in (folder / "out" / "lists").glob("*.json")}
    seen = {str(item["image"]) for item in lists["images"]}
    assert not any("label" in item for item in lists["images"])
    assert not seen & {str(item["image"]) for item in lists["test"] + lists["validation"]}


@pytest.mark.slow
def test_the_long_arm_gets_the_compute_of_pretraining(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    flops = json.loads((folder / "out" / "summary.json").read_text())["step_flops"]
    done = {
        path.parent.name: json.loads(path.read_text())["steps"]
        for path in (folder / "out" / "runs").glob("*/*/done.json")
    }
    pretraining = next(steps for name, steps in done.items() if name == "self_all_seed0")
    short, long = (
        max(s for n, s in done.items() if n.startswith(f"{arm}_all_seed0")) for arm in ("scratch", "scratch_long")
    )
    extra = (long - short) * flops["fine_tuning"]
    assert extra == pytest.approx(pretraining * flops["pretraining"], abs=3 * flops["fine_tuning"])


@pytest.mark.slow
def test_a_killed_comparison_goes_on(tmp_path: Path) -> None:
    data, settings = write_data("nih", tmp_path / "data"), tmp_path / "settings.json"
    given = {"bundle": str(ROOT / "bundles" / "vit_cxr14"), "dataset_dir": str(data), "arms": ["scratch", "self"]}
    given |= {"shared": SMALL["vit_cxr14"][0] | {"num_workers": 0}, "pretraining": DECODER, "seeds": 1, "steps": 4}
    given |= {"fine_tuning": SMALL["vit_cxr14"][1], "pretraining_steps": 4, "learning_rates": [1e-3], "validations": 2}
    settings.write_text(json.dumps(given))
    command = [
        sys.executable,
        "-m",
        "scripts.compare",
        str(tmp_path / "out"),
        "--settings",
        str(settings),
        "--workers",
        "1",
    ]
    first = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    pretrained = tmp_path / "out" / "runs" / "pretraining" / "self_all_seed0" / "done.json"
    for _ in range(600):
        if pretrained.is_file():
            break
        time.sleep(0.1)
    time.sleep(2)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    stamp = pretrained.stat().st_mtime_ns
    assert not (tmp_path / "out" / "report.html").exists()
    subprocess.run(command, cwd=ROOT, check=True)
    assert (tmp_path / "out" / "report.html").is_file() and pretrained.stat().st_mtime_ns == stamp
