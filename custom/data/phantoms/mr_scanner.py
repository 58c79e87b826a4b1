"""From tissue to four contrasts: relaxation tables, signal equations, bias, gain, partial volume and noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..contrasts import CONTRASTS
from .mr_head import Head
from .shapes import Axes

RELAXIVITY = 4.5  # of gadolinium, 1 / (mmol/l s)

# Proton density, T1 and T2 in ms, contrast agent in mmol/l.
TISSUES: dict[str, tuple[float, float, float, float]] = {
    "csf": (1.00, 4000, 1400, 0),
    "cavity": (0.98, 3600, 900, 0),
    "grey": (0.84, 1350, 98, 0.01),
    "white": (0.72, 830, 76, 0),
    "stem": (0.75, 950, 80, 0),
    "deep grey": (0.80, 1220, 86, 0.01),
    "pallidum": (0.76, 950, 66, 0),
    "gliosis": (0.85, 1400, 135, 0),
    "plexus": (0.88, 1500, 125, 0.5),
    "vessel": (0.55, 1500, 70, 1.2),
    "oedema": (0.88, 1450, 145, 0),
    "non-enhancing": (0.88, 1600, 150, 0.02),
    "necrosis": (0.95, 2400, 260, 0.03),
    "enhancing": (0.86, 1450, 120, 0.45),
}


def spin_echo(density: float, t1: float, t2: float, tr: float, te: float) -> float:
    """Signal of a spin echo; times in ms."""
    return density * (1 - np.exp(-tr / t1)) * np.exp(-te / t2)


def inversion_recovery(density: float, t1: float, t2: float, tr: float, te: float, ti: float) -> float:
    """Magnitude after an inversion `ti` ms before the excitation."""
    return density * abs(1 - 2 * np.exp(-ti / t1) + np.exp(-tr / t1)) * np.exp(-te / t2)


class Scanner:
    """One examination of a head: sequence times, tissues, bias, gain and noise, all drawn from its streams."""

    def __init__(self, head: Head) -> None:
        self.head = head
        rng = head.rng("sequences")
        t1_tr, t1_te = rng.uniform(480, 700), rng.uniform(9, 16)
        self.flair = {"tr": rng.uniform(8500, 10000), "te": rng.uniform(95, 135), "ti": rng.uniform(2350, 2600)}
        self.t1 = {"tr": t1_tr, "te": t1_te}
        self.t2 = {"tr": rng.uniform(3500, 5500), "te": rng.uniform(80, 115)}
        self.agent = rng.uniform(0.6, 1.4)

    def signals(self, tissue: str) -> NDArray[np.float64]:
        """Signal (4,) of a tissue in this examination, in the order of CONTRASTS."""
        density, t1, t2, agent = TISSUES[tissue]
        own = np.exp(0.09 * np.clip(self.head.rng(tissue).standard_normal(4), -2, 2))
        density, t1, t2 = density * own[0] ** 0.5, t1 * own[1], t2 * own[2] ** 1.5
        shortened = 1 / (1 / t1 + RELAXIVITY * self.agent * agent * own[3] ** 3 / 1000)
        return np.array(
            [
                inversion_recovery(density, t1, t2, **self.flair),
                spin_echo(density, t1, t2, **self.t1),
                spin_echo(density, shortened, t2, **self.t1),
                spin_echo(density, t1, t2, **self.t2),
            ]
        )

    def table(self) -> dict[str, NDArray]:
        """Signals (4,) of every tissue."""
        return {tissue: self.signals(tissue) for tissue in TISSUES}

    def scan(self, signal: NDArray, mask: NDArray, axes: Axes) -> NDArray[np.int16]:
        """Signal (4, n) of the voxels in mask (H, W, D) to an image (H, W, D, 4): 0 outside, at least 1 inside."""
        image = np.zeros((*mask.shape, len(CONTRASTS)), np.int16)
        inside = np.maximum(gaussian_filter(mask.astype(np.float32), 0.5), 1e-3)
        fine = self.head.noise("texture", 5)(axes)[mask]
        for channel, name in enumerate(CONTRASTS):
            rng = self.head.rng(name)
            volume = np.zeros(mask.shape, np.float32)
            volume[mask] = signal[channel] * (1 + 0.03 * rng.choice((-1, 1)) * fine)
            volume = (gaussian_filter(volume, 0.5) / inside)[mask]
            level = np.median(volume)
            volume *= np.exp(rng.uniform(0.10, 0.28) * self.head.noise(f"{name} bias", 90)(axes)[mask])
            volume += self._noise_level(rng) * level * correlated_noise(rng, mask.shape)[mask]
            gain = rng.uniform(250, 900) / level
            image[mask, channel] = np.clip(np.rint(gain * volume), 1, 32767)
        return image

    @staticmethod
    def _noise_level(rng: np.random.Generator) -> float:
        """Standard deviation relative to the brain's median; one contrast in six is much noisier."""
        return rng.uniform(0.025, 0.06) * (1.8 if rng.random() < 1 / 6 else 1.0)


def correlated_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Unit-variance noise (H, W, D) that hardly reaches beyond the next voxel."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 0.45)
    return noise / noise.std()
