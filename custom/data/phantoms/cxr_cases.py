"""Who is radiographed and what is wrong: latents of a patient, severities of 14 findings in every image, reports.

A finding is a liability, standard normal over the population: latents shared with other findings make some occur
together, and a threshold at the prevalence divides present from absent. What is drawn follows the liability and starts
below the threshold, so that borderline images exist on both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import norm

from ..nih import FINDINGS
from .subject import Streams

LABEL_NOISE = 0.07  # share of the reported findings that are not there, and of those there that are not reported
LATENTS = ("failure", "infection", "smoking", "tumour", "scars", "surgery", "frailty", "age")


@dataclass(frozen=True)
class Disease:
    """How one finding comes about.

    `prevalence` is the share of images, `loadings` the weights of the shared latents, `lasting` the share of the rest
    that a patient keeps from image to image, `onset` how far below the threshold something is drawn.
    """

    prevalence: float
    loadings: dict[str, float]
    lasting: float
    onset: float = 0.3

    @cached_property
    def threshold(self) -> float:
        """The liability above which the finding is present."""
        return float(norm.isf(self.prevalence))


# Prevalences are those of ChestX-ray14, except that hernia (0.2 %) and the next rarest are raised to 1 to 2 %.
DISEASES = dict(
    zip(
        FINDINGS,
        (
            Disease(0.103, {"frailty": 0.45, "failure": 0.25, "surgery": 0.2}, 0.3),
            Disease(0.030, {"failure": 0.75, "age": 0.1}, 0.9, 0.5),
            Disease(0.119, {"failure": 0.5, "frailty": 0.3, "tumour": 0.25, "infection": 0.15}, 0.4),
            Disease(0.170, {"infection": 0.5, "frailty": 0.25, "failure": 0.15}, 0.3),
            Disease(0.050, {"tumour": 0.65, "smoking": 0.15}, 0.85, 0.1),
            Disease(0.056, {"tumour": 0.6, "smoking": 0.15}, 0.8, 0.2),
            Disease(0.018, {"infection": 0.75}, 0.1),
            Disease(0.047, {"surgery": 0.6, "smoking": 0.25}, 0.3, 0.15),
            Disease(0.042, {"infection": 0.6, "frailty": 0.25}, 0.3),
            Disease(0.024, {"failure": 0.75, "frailty": 0.2}, 0.2),
            Disease(0.023, {"smoking": 0.75, "age": 0.15}, 0.95),
            Disease(0.016, {"scars": 0.75, "age": 0.15}, 0.95),
            Disease(0.030, {"scars": 0.45, "surgery": 0.3, "age": 0.15}, 0.8),
            Disease(0.010, {"age": 0.6}, 0.95, 0.2),
        ),
        strict=True,
    )
)


class Patient(Streams):
    """Patient `index` of the population `seed`."""

    extent_mm = 200.0

    def __init__(self, seed: int, index: int) -> None:
        super().__init__(seed, index)
        self.latents = dict(zip(LATENTS, self.rng("cxr latents").standard_normal(len(LATENTS)).tolist(), strict=True))
        self.female = bool(self.rng("cxr sex").random() < 0.44)

    @cached_property
    def images(self) -> int:
        """How many images there are, 1 to 8; the frail have more."""
        stay = norm.cdf(-0.2 + 0.45 * self.latents["frailty"])
        return 1 + int((self.rng("cxr images").random(7) < stay).cumprod().sum())

    def normal(self, name: str, spread: float = 1.0) -> float:
        """One normal number of the stream `name`, clipped at two standard deviations."""
        return spread * float(np.clip(self.rng(f"cxr {name}").standard_normal(), -2, 2))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """One uniform number of the stream `name`."""
        return float(self.rng(f"cxr {name}").uniform(low, high))

    @property
    def age(self) -> int:
        """Years at the first image."""
        return int(np.clip(round(50 + 16 * self.latents["age"]), 16, 92))


class Visit:
    """One image of a patient: its severities, its report, and how it is taken.

    Args:
        patient: whose anatomy it shows.
        number: the image's, from 0.
        severities: drawn instead of those that follow from the liabilities; what is not named is not drawn.
    """

    def __init__(self, patient: Patient, number: int, severities: dict[str, float] | None = None) -> None:
        self.patient, self.number = patient, number
        self.given = severities

    def rng(self, name: str) -> np.random.Generator:
        """The random stream of something that belongs to this image alone."""
        return self.patient.rng(f"cxr image {self.number} {name}")

    def normal(self, name: str, spread: float = 1.0) -> float:
        """One normal number of this image, clipped at two standard deviations."""
        return spread * float(np.clip(self.rng(name).standard_normal(), -2, 2))

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> float:
        """One uniform number of this image."""
        return float(self.rng(name).uniform(low, high))

    @property
    def portable(self) -> bool:
        """Whether it is an AP image of a patient in bed; the frail often are."""
        return self.normal("portable") + 0.9 * self.patient.latents["frailty"] > 0.55

    @cached_property
    def liabilities(self) -> dict[str, float]:
        """A standard normal number for each finding, in NIH's order."""
        return {finding: self._liability(finding, disease) for finding, disease in DISEASES.items()}

    def _liability(self, finding: str, disease: Disease) -> float:
        """The shared latents and what belongs to the finding alone, kept and new."""
        patient = self.patient
        shared = sum(weight * patient.latents[name] for name, weight in disease.loadings.items())
        rest = 1 - sum(weight**2 for weight in disease.loadings.values())
        kept = float(patient.rng(f"cxr {finding}").standard_normal())
        new = float(self.rng(finding).standard_normal())
        return shared + float(np.sqrt(rest * disease.lasting) * kept + np.sqrt(rest * (1 - disease.lasting)) * new)

    def severity(self, finding: str) -> float:
        """How much of a finding is drawn: 0 is nothing, 1 is severe."""
        if self.given is not None:
            return self.given.get(finding, 0.0)
        disease = DISEASES[finding]
        return float(np.clip((self.liabilities[finding] - disease.threshold + disease.onset) / 1.5, 0, 1))

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The findings above their thresholds, in NIH's order."""
        return tuple(name for name, disease in DISEASES.items() if self.liabilities[name] > disease.threshold)

    @cached_property
    def reported(self) -> tuple[str, ...]:
        """The labels: what is present, except for reports that miss it or invent it, at the same rate."""
        chance = self.rng("report").random(len(FINDINGS))
        wrong = [
            chance[row] < (LABEL_NOISE if name in self.present else invented(disease))
            for row, (name, disease) in enumerate(DISEASES.items())
        ]
        return tuple(name for name, flip in zip(FINDINGS, wrong, strict=True) if (name in self.present) != flip)


def invented(disease: Disease) -> float:
    """The rate of false reports among images without the finding that leaves its prevalence as it is."""
    return LABEL_NOISE * disease.prevalence / (1 - disease.prevalence)
