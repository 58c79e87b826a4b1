"""The report of a classification, and the files of an inference."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, State
from monai.data import MetaTensor

from custom.errors import InputError
from custom.findings import FindingsReport, FindingsTable, MeanAUC
from custom.networks import ViTClassifier
from custom.transforms import SaveFindingsd, SaveRelevanced

NAMES = ["Mass", "Hernia", "Edema"]


def run_report(folder: Path, items: list[dict]) -> State:
    """A report over items {"source", "patient", "pred", "label"}, as a MONAI evaluator hands them over."""

    def step(engine: Engine, batch: list[dict]) -> list[dict]:
        engine.state.batch = [{key: item[key] for key in ("source", "patient")} for item in batch]
        return [{key: torch.tensor(item[key], dtype=torch.float32) for key in ("pred", "label")} for item in batch]

    engine = Engine(step)
    FindingsReport(folder, NAMES).attach(engine)
    return engine.run([items[:50], items[50:]])


def items() -> list[dict]:
    state = np.random.default_rng(0)
    made = []
    for index in range(100):
        label = [index % 2, int(index < 4), int(index % 5 == 0)]
        pred = [label[0], state.random(), 0.5]
        made.append({"source": f"/data/image{index}.png", "patient": str(index // 3), "label": label, "pred": pred})
    return made


def test_rare_findings_are_reported_but_not_in_the_mean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        state = run_report(tmp_path, items())
    rows = {row["finding"]: row for row in csv.DictReader((tmp_path / "summary.csv").open())}
    assert list(rows) == [*NAMES, "mean of 2"]
    assert [rows[name]["in_mean"] for name in NAMES] == ["True", "False", "True"]
    assert float(rows["Mass"]["auc"]) == 1 and float(rows["Edema"]["auc"]) == 0.5 and rows["Hernia"]["auc"]
    assert state.metrics["auc_mean"] == pytest.approx(0.75)
    assert "left out of the mean, too few positives or negatives: Hernia" in caplog.text
    assert "100 images of 34 patients" in caplog.text


def test_every_image_has_a_row_and_there_is_a_figure(tmp_path: Path) -> None:
    run_report(tmp_path, items())
    rows = list(csv.reader((tmp_path / "per_image.csv").open()))
    assert len(rows) == 101 and rows[0] == ["image", "patient", *NAMES, *(f"{name} (label)" for name in NAMES)]
    assert (tmp_path / "roc.png").stat().st_size > 5000


def test_the_key_metric_leaves_out_what_it_cannot_score() -> None:
    metric = MeanAUC()
    metric(torch.tensor([[0.9, 0.1], [0.2, 0.3]]), torch.tensor([[1, 0], [0, 0]]))
    assert metric.aggregate() == 1
    metric.reset()
    metric(torch.tensor([[0.9, 0.1], [0.2, 0.3]] * 10), torch.tensor([[1, 0], [0, 0]] * 9 + [[1, 1], [0, 0]]))
    assert metric.aggregate() == 1  # one positive is too few beside ten
    metric.reset()
    metric(torch.rand(3, 2), torch.zeros(3, 2))
    with pytest.raises(InputError, match="validation_fraction"):
        metric.aggregate()


def test_predictions_that_are_not_numbers_are_no_result(tmp_path: Path) -> None:
    metric = MeanAUC()
    metric(torch.full((4, 1), float("nan")), torch.tensor([[0], [0], [1], [1]]))
    with pytest.raises(InputError, match="4 of 4 images are NaN"):
        metric.aggregate()
    broken = items()
    broken[7]["pred"] = [float("nan")] * 3
    with pytest.raises(InputError, match="1 of 100 images are NaN"):
        run_report(tmp_path, broken)


def test_images_of_the_same_name_in_two_folders_both_count(tmp_path: Path) -> None:
    twice = items()
    twice[1]["source"] = "/other/image0.png"
    run_report(tmp_path, twice)
    names = [row[0] for row in csv.reader((tmp_path / "per_image.csv").open())]
    assert len(names) == 101 and {"image0 (1 of 2)", "image0 (2 of 2)", "image2"} <= set(names)


def test_inference_writes_probabilities_and_a_picture(tmp_path: Path) -> None:
    network = ViTClassifier(1, [16, 16], 4, 3, hidden_size=8, num_layers=2, num_heads=2)
    image = MetaTensor(torch.rand(1, 16, 16), meta={"filename_or_obj": "/data/a.png"})
    data = {"image": image, "pred": torch.tensor([0.2, 0.7, 0.123456])}
    data = SaveFindingsd("pred", NAMES, tmp_path)(data)
    SaveRelevanced("pred", network, NAMES, tmp_path)(data)
    content = json.loads((tmp_path / "a_findings.json").read_text())
    assert content == {"image": "a.png", "probabilities": {"Mass": 0.2, "Hernia": 0.7, "Edema": 0.1235}}
    assert (tmp_path / "a_relevance.png").stat().st_size > 5000
    FindingsTable(tmp_path, NAMES)(Engine(lambda *_: None))
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "image,Mass,Hernia,Edema",
        "a.png,0.2,0.7,0.1235",
    ]
    with pytest.raises(InputError, match="Fracture"):
        SaveRelevanced("pred", network, NAMES, tmp_path, finding="Fracture")
    with pytest.raises(InputError, match="class_names"):
        SaveFindingsd("pred", NAMES[:2], tmp_path)(data)
