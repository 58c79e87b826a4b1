"""Write volumes so that a file is complete or absent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.data import NibabelWriter

from ..files import replacing


class CompleteNibabelWriter(NibabelWriter):
    """MONAI's NIfTI writer, for SaveImaged's `writer`: a killed run leaves no half file under the final name."""

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """As MONAI's; where nothing is resampled the voxels stay as they are, and are not made float32 in between."""
        if resample:
            super().set_metadata(meta_dict, resample, **options)
        else:
            _, self.affine, _ = self.get_meta_info(meta_dict)

    def write(self, filename: str | Path, verbose: bool = False, **kwargs: Any) -> None:
        """Write beside `filename` and rename; InputError where it cannot be written."""
        with replacing(filename) as beside:
            super().write(beside, verbose=verbose, **kwargs)
