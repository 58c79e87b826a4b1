"""MONAI Label with the bundles of this collection: its app, the bundles as it needs them, first images, the server.

Runs in MONAI Label's own environment (`make label`), which has the packages of requirements-label.txt.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from custom.data.phantoms.ct import write_btcv
from custom.data.phantoms.cxr_files import write_nih
from custom.data.phantoms.mr import write_msd
from custom.errors import InputError, explain_errors

from .command_line import run_command_line
from .label_bundles import add_bundles

logger = logging.getLogger(__name__)

UNSEEN = 9  # a seed that no shipped weights were trained on
GENERATED = {
    "imagesTr/img0001.nii.gz": "generated_ct.nii.gz",
    "imagesTr/BRATS_001.nii.gz": "generated_brain_mr.nii.gz",
    "images/00000001_000.png": "generated_chest.png",
}
APP = "monaibundle"


def label(
    studies: str = "",
    bundles: str | Sequence[str] = (),
    output_dir: str = "label",
    host: str = "127.0.0.1",
    port: int = 8000,
) -> None:
    """Prepare the app in `output_dir` and serve the images of `studies` until interrupted.

    Args:
        studies: folder of NIfTI and PNG files, or the address of a DICOMweb server; without it, three generated images
            in `output_dir`.
        bundles: folder of a bundle to serve, or several; without it, those of this collection.
        output_dir: made when missing; weights trained through MONAI Label stay there from one start to the next.
        host: address to listen on; MONAI Label asks nobody for a password, so open it with care.
        port: port to listen on.
    """
    if studies and "://" not in studies and not Path(studies).is_dir():
        raise InputError(f"studies {studies} is not a folder; give one with NIfTI or PNG files, or a DICOMweb address")
    check_port(host, port)
    folder = Path(output_dir).resolve()
    install_app(folder / APP)
    models = add_bundles(folder / APP / "model", bundles)
    studies = studies or str(generated_images(folder / "studies"))
    settings = {"models": ",".join(models), "zoo_source": "local", "sam2": "false"}
    words = [word for setting in settings.items() for word in ("--conf", *setting)]
    environment = os.environ | {"MONAI_LABEL_SESSION_PATH": str(folder / "sessions")}
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(folder / APP)]
    command += ["--studies", studies, "--host", host, "--port", str(port), *words]
    logger.info(f"serving {studies} on http://{host}:{port} in about half a minute; Ctrl-C ends it")
    os.execve(sys.executable, command, environment)


def check_port(host: str, port: int) -> None:
    """Refuse a port that is none or in use, before the models are loaded."""
    if not isinstance(port, int):
        raise InputError(f"port {port} is not a number; give one such as 8000")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} cannot be used ({error.strerror}); give another port") from error


def install_app(app: Path) -> None:
    """MONAI Label's own app for bundles."""
    if not app.is_dir():
        command = [sys.executable, "-m", "monailabel.main", "apps", "--download", "--name", APP]
        subprocess.run([*command, "--output", str(app.parent)], check=True)


def generated_images(studies: Path) -> Path:
    """One CT, one MR of four contrasts and one chest X-ray, made here unless `studies` exists; returns `studies`."""
    if studies.is_dir():
        return studies
    making = studies.parent / "generated"
    for write in (write_btcv, write_msd, write_nih):
        write(making, 2, seed=UNSEEN)
    studies.mkdir(parents=True)
    for path, name in GENERATED.items():
        shutil.copy(making / path, studies / name)
    shutil.rmtree(making)
    return studies


if __name__ == "__main__":
    explain_errors()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_command_line(label)
