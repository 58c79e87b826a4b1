"""The comparison from one command, on phantoms, for each bundle; killed and run again."""

import csv
import gzip
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from custom.checkpoints import write_checkpoint
from custom.errors import InputError, sentence_of
from custom.study.arms import PROBE
from custom.study.cases import read_items
from custom.study.compare import run_comparison
from custom.study.recipe import find_recipe, read_parser
from custom.study.settings import Settings, read_settings
from scripts import compare as program
from scripts.publish import publish
from scripts.tiny import LAYOUTS, NETWORK, ROOT, SPACING, write_data

from .tables import check_means, read_table

DECODER = {"decoder_hidden_size": 24, "decoder_num_layers": 1, "decoder_num_heads": 2}
SMALL = {
    "unetr_btcv": (NETWORK | SPACING, {"feature_size": 4, "validation_cases": 2, "overlap": 0.0}),
    "unetr_brats": (NETWORK | SPACING, {"feature_size": 4, "validation_cases": 2, "overlap": 0.0}),
    "vit_cxr14": (NETWORK | {"img_size": 32}, {"validation_fraction": 0.3}),
}


MORE: dict[str, dict[str, object]] = {
    "unetr_btcv": {
        "cases": (3, 0),
        "arms": ("scratch", "self", "scratch_long", "broken", "pixels"),
        "decoder": "light",
    },
    "unetr_brats": {"arms": ("scratch", "self", "pixels", "identity"), "seeds": 1, "pretrain_on": "labelled"}
    | {"variants": {"half": {"masking_ratio": 0.5}}},
    "vit_cxr14": {"learning_rates": (1e-3, 3e-3)},
}


def tiny_settings(name: str, data: Path, **more: object) -> Settings:
    shared, fine_tuning = SMALL[name]
    given = {"bundle": str(ROOT / "bundles" / name), "dataset_dir": str(data), "seeds": 2, "validations": 2}
    given |= {"shared": shared | {"num_workers": 0}, "pretraining": DECODER, "fine_tuning": fine_tuning}
    given |= {"pretraining_steps": 6, "steps": 6, "learning_rates": (1e-3,), "layer_decays": (1.0,)}
    return read_settings(**(given | more))


def random_encoder(settings: Settings, path: Path) -> Path:
    parser = read_parser(settings.recipe.pretraining_bundle, settings.recipe.pretrain, settings.options("pretraining"))
    write_checkpoint({"model": parser.get_parsed_content("network_def").state_dict()}, path)
    return path


@pytest.fixture(scope="module", params=list(SMALL))
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, list[str]]:
    folder = tmp_path_factory.mktemp(request.param)
    data = write_data(LAYOUTS[request.param], folder / "data")
    settings = tiny_settings(request.param, data, **MORE[request.param])
    if settings.recipe.classifies:
        elsewhere = random_encoder(settings, folder / "elsewhere.pt")
        settings = replace(settings, arms=(*settings.arms, "given"), weights=str(elsewhere))
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
    arms = set(json.loads((folder / "out" / "settings.json").read_text())["arms"])
    frozen = {f"{PROBE}{arm}" for arm in arms & {"scratch", "self", "broken", "given", "half"}}
    assert {key[0] for key in scored} == arms | frozen
    assert len({tuple(cases) for cases in scored.values()}) == 1


@pytest.mark.slow
def test_the_table_of_all_numbers_gives_every_score_and_names_no_patient(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    table = (folder / "out" / "results.csv").read_text()
    assert {row["group"] for row in read_table(table)} <= set(map(str, range(len(table))))
    check_means(table, json.loads((folder / "out" / "summary.json").read_text()))


@pytest.mark.slow
def test_what_is_broken_sees_shuffled_patches_and_nothing_else_does(finished: tuple[str, Path, list[str]]) -> None:
    name, folder, _ = finished
    shuffled = {}
    for file in (folder / "out" / "runs" / "pretraining").glob("*/run.json"):
        recipe = find_recipe(ROOT / "bundles" / name)
        options = json.loads(file.read_text())
        parser = read_parser(recipe.pretraining_bundle, recipe.pretrain, options)
        names = [type(one).__name__ for one in parser.get_parsed_content("train#augmentation").transforms]
        shuffled.setdefault(file.parent.name.partition("_")[0], set()).add("ShuffleBlocksd" in names)
    assert all(found == {arm == "broken"} for arm, found in shuffled.items()) and "self" in shuffled
    assert name == "unetr_brats" or "broken" in shuffled


@pytest.mark.slow
def test_the_report_says_what_the_summary_says(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    page, summary = (folder / "out" / name for name in ("report.html", "summary.json"))
    answer = json.loads(summary.read_text(), parse_constant=pytest.fail)["answer"]  # NaN, which is no JSON
    assert answer.startswith("On these") and "self pre-training changes mean" in answer
    assert answer.replace("'", "&#39;") in page.read_text() and str(folder) not in page.read_text()


@pytest.mark.slow
def test_its_record_has_every_number_and_no_folder(
    finished: tuple[str, Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder, _ = finished
    record = tmp_path / "record"
    publish(str(folder / "out"), str(record))
    out, summary = capsys.readouterr().out, (record / "summary.json").read_text()
    table = gzip.decompress((record / "results.csv.gz").read_bytes())
    assert table == (folder / "out" / "results.csv").read_bytes()
    assert summary.count(str(folder)) == 0 and (record / "curves.png").stat().st_size > 10_000
    content = json.loads(summary)
    for rows in ("arms", "differences"):
        last = [row for row in content[rows] if row["checkpoint"] == "last"]
        assert last and all(f"| {content['labels'][row['arm']]}" in out for row in last)
    kept = (record / "curves.csv").read_text().splitlines()
    runs = len({tuple(row.split(",")[:3]) for row in kept[1:]})
    assert runs == sum(row["seeds"] for row in content["arms"] if row["checkpoint"] == "best")
    publish(str(record))
    assert capsys.readouterr().out == out
    (record / "mine.txt").touch()
    with pytest.raises(InputError, match=r"has no summary\.json"):
        publish(str(tmp_path))
    with pytest.raises(InputError, match="holds more than a record"):
        publish(str(folder / "out"), str(record))
    assert (record / "summary.json").is_file()
    assert "answer" not in content and out.count("passed |") == len(content["pretraining"])


@pytest.mark.slow
def test_the_same_command_does_nothing_again(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, first = finished
    settings = read_settings(folder / "out" / "settings.json")
    lines: list[str] = []
    run_comparison(settings, folder / "out", 2, lines.append)
    assert first[0] == lines.pop() and " PFLOP in all" in first[0] and not lines
    with pytest.raises(InputError, match="another learning_rates"):  # test cases have been scored
        run_comparison(replace(settings, learning_rates=(1e-4,)), folder / "out", 2, lines.append)
    run_comparison(replace(settings, section="validation"), folder / "out", 2, lines.append)
    assert lines[1].startswith("scoring validation cases: ")
    assert lines[2:] and all(line.startswith("evaluation/") for line in lines[2:])
    with pytest.raises(InputError, match="another steps"):
        run_comparison(replace(settings, steps=7), folder / "out", 2, lines.append)


@pytest.mark.slow
def test_pretraining_trains_on_no_labels_and_no_image_that_is_scored(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    out = folder / "out"
    lists = [read_items(out / "lists" / f"{name}.json") for name in ("test", "validation")]
    scored = {str(item["image"]) for items in lists for item in items}
    for file in (out / "runs" / "pretraining").glob("*/run.json"):
        items = read_items(json.loads(file.read_text())["train#data"]["path"])
        assert items and not any("label" in item for item in items)
        assert not scored & {str(item["image"]) for item in items}


@pytest.mark.slow
def test_arms_without_pretraining_start_from_the_same_kind_of_weights(finished: tuple[str, Path, list[str]]) -> None:
    _, folder, _ = finished
    runs = folder / "out" / "runs" / "fine_tuning"
    starts = {json.loads(path.read_text())["pretrained_weights"] for path in runs.glob("scratch*seed0*/run.json")}
    assert starts == {str(folder / "out" / "initial" / "seed0.pt")}


def test_a_mistyped_folder_of_data_does_not_stay_with_the_output(tmp_path: Path) -> None:
    settings = tiny_settings("unetr_btcv", tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="datalist"):  # MONAI's, from the sentence about the folder
        run_comparison(settings, tmp_path / "out", 1, print)
    assert not (tmp_path / "out" / "settings.json").exists()


def test_an_interruption_says_that_the_same_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run_comparison", interrupted)
    with pytest.raises(InputError) as caught:
        program.compare(str(tmp_path), str(ROOT / "bundles" / "unetr_btcv"), "data")
    assert sentence_of(caught.value) == "interrupted; the same command goes on from here"


@pytest.mark.slow
def test_a_killed_comparison_goes_on(tmp_path: Path) -> None:
    data, settings = write_data("nih", tmp_path / "data"), tmp_path / "settings.json"
    shared, fine_tuning = SMALL["vit_cxr14"]
    given = {"bundle": str(ROOT / "bundles" / "vit_cxr14"), "dataset_dir": str(data), "arms": ["scratch", "self"]}
    given |= {"shared": shared | {"num_workers": 0}, "pretraining": DECODER, "fine_tuning": fine_tuning, "seeds": 1}
    given |= {"steps": 4, "learning_rates": [1e-3], "layer_decays": [1.0], "validations": 2, "pretraining_steps": 400}
    settings.write_text(json.dumps(given))
    command = [sys.executable, "-m", "scripts.compare", str(tmp_path / "out"), "--settings", str(settings)]
    command += ["--workers", "1"]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait for each other crawl on busy cores
    first = subprocess.Popen(command, cwd=ROOT, env=alone)
    begun = tmp_path / "out" / "runs" / "pretraining" / "self_all_seed0" / "last.pt"
    while not begun.is_file():
        assert first.poll() is None
        time.sleep(0.02)
    children = descendants(first.pid)
    first.kill()
    first.wait()
    assert children and gone(children, seconds=20)
    assert not begun.with_name("done.json").exists()
    subprocess.run(command, cwd=ROOT, check=True, env=alone)
    assert (tmp_path / "out" / "report.html").is_file()
    assert json.loads(begun.with_name("done.json").read_text())["resumed"]


def descendants(process: int) -> list[int]:
    """Processes that this one made, and theirs."""
    files = Path(f"/proc/{process}/task").glob("*/children")
    own = [int(child) for file in files for child in file.read_text().split()]
    return own + [one for child in own for one in descendants(child)]


def gone(processes: list[int], seconds: float) -> bool:
    """Whether all have ended within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(alive, processes)):
            return True
        time.sleep(0.1)
    return False


def alive(process: int) -> bool:
    """Whether it runs; what only waits to be buried does not."""
    file = Path(f"/proc/{process}/stat")
    return file.is_file() and file.read_text().rpartition(")")[2].split()[0] != "Z"
