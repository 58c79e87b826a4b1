"""The 14 findings in the order in which they change a chest."""

from __future__ import annotations

from collections.abc import Callable

from . import cxr_opacities as opacities
from . import cxr_pleura as pleura
from .cxr_lungs import Lungs

# Cardiomegaly belongs to the heart; atelectasis, emphysema, fibrosis and pneumothorax change the chest, too.
PAINTERS: dict[str, Callable[[Lungs, float], None]] = {
    "Emphysema": opacities.emphysema,
    "Fibrosis": opacities.fibrosis,
    "Edema": opacities.oedema,
    "Infiltration": opacities.infiltration,
    "Pneumonia": opacities.pneumonia,
    "Consolidation": opacities.consolidation,
    "Atelectasis": opacities.atelectasis,
    "Nodule": opacities.nodule,
    "Mass": opacities.mass,
    "Pleural_Thickening": pleura.thickening,
    "Pneumothorax": pleura.pneumothorax,
    "Effusion": pleura.effusion,
    "Hernia": pleura.hernia,
}


def add_findings(lungs: Lungs) -> None:
    """Change the air in the lungs by every finding with a severity, and by scars and bowel gas without a label."""
    opacities.scars(lungs)
    for name, paint in PAINTERS.items():
        if severity := lungs.chest.visit.severity(name):
            paint(lungs, severity)
    pleura.bowel_gas(lungs)
