"""The population behind the chest X-ray phantoms: how often findings occur, alone and together, and how reports err."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from custom.data.nih import FINDINGS
from custom.data.phantoms.cxr_cases import DISEASES, LABEL_NOISE, Patient, Visit


@pytest.fixture(scope="module")
def visits() -> list[Visit]:
    people = [Patient(3, index) for index in range(1, 1801)]
    return [Visit(person, number) for person in people for number in range(person.images)]


@pytest.fixture(scope="module")
def present(visits: list[Visit]) -> NDArray[np.bool_]:
    return np.array([[name in visit.present for name in FINDINGS] for visit in visits])


def test_prevalences_are_those_of_the_table(present: NDArray) -> None:
    for row, (name, disease) in enumerate(DISEASES.items()):
        assert 0.5 * disease.prevalence < present[:, row].mean() < 1.8 * disease.prevalence, name
    assert list(DISEASES) == list(FINDINGS)
    assert min(disease.prevalence for disease in DISEASES.values()) >= 0.01
    assert max(disease.prevalence for disease in DISEASES.values()) <= 0.18
    assert 0.4 < (~present.any(1)).mean() < 0.65  # ChestX-ray14 has 54 % without a finding


@pytest.mark.parametrize(
    ("first", "second", "least"),
    [
        ("Edema", "Cardiomegaly", 3.0),
        ("Edema", "Effusion", 2.0),
        ("Cardiomegaly", "Effusion", 1.4),
        ("Infiltration", "Consolidation", 1.5),
        ("Pneumonia", "Consolidation", 1.8),
        ("Mass", "Nodule", 1.5),
    ],
)
def test_findings_occur_together_more_often_than_by_chance(
    present: NDArray, first: str, second: str, least: float
) -> None:
    one, two = present[:, FINDINGS.index(first)], present[:, FINDINGS.index(second)]
    assert (one & two).mean() / (one.mean() * two.mean()) > least


def test_reports_err_at_the_stated_rate(visits: list[Visit], present: NDArray) -> None:
    reported = np.array([[name in visit.reported for name in FINDINGS] for visit in visits])
    missed, invented = (present & ~reported).sum() / present.sum(), (reported & ~present).sum() / reported.sum()
    assert abs(missed - LABEL_NOISE) < 0.025 and abs(invented - LABEL_NOISE) < 0.025


def test_severity_is_continuous_across_the_threshold(visits: list[Visit]) -> None:
    drawn = [visit for visit in visits if visit.severity("Effusion") > 0]
    unlabelled = [visit for visit in drawn if "Effusion" not in visit.present]
    assert 0.1 < len(unlabelled) / len(drawn) < 0.6
    worst = max(visit.severity("Effusion") for visit in unlabelled)
    assert worst <= min(visit.severity("Effusion") for visit in drawn if "Effusion" in visit.present)


def test_the_sick_are_radiographed_in_bed(visits: list[Visit], present: NDArray) -> None:
    portable = np.array([visit.portable for visit in visits])
    assert 0.25 < portable.mean() < 0.5
    assert present[portable].mean() > 1.15 * present[~portable].mean()
