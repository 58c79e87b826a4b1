"""Paths that every test may use."""

import os
from pathlib import Path

import pytest

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # before anything imports MONAI, which imports mlflow


@pytest.fixture(scope="session")
def sample_data() -> Path:
    """The folder of real images named by SAMPLE_DATA; without it the tests that need it are skipped, with a reason."""
    folder = os.environ.get("SAMPLE_DATA")
    if not folder:
        pytest.skip("SAMPLE_DATA is not set: this test runs on real images that are not part of the project")
    return Path(folder)
