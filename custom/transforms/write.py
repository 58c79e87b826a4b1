"""Write volumes so that a file is complete or absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monai.data import NibabelWriter

from ..files import replacing


class CompleteNibabelWriter(NibabelWriter):
    """MONAI's NIfTI writer, for SaveImaged's `writer`: a killed run leaves no half file under the final name."""

    def write(self, filename: str | Path, verbose: bool = False, **kwargs: Any) -> None:
        """Write beside `filename` and rename; InputError where it cannot be written."""
        with replacing(filename) as beside:
            super().write(beside, verbose=verbose, **kwargs)
