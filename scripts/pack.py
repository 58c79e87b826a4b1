"""Self-contained copies of the bundles: `dist/<name>/` and `dist/<name>_v<version>.zip`, with `custom` inside.

In this repository each bundle links to the one `custom`; a release has to carry it. Archives are the same byte for byte
when their content is.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import fire

from custom.errors import InputError, explain_errors

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = ("__pycache__", "*.pyc", "eval", "cache")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold


def pack(names: str | list[str] = "all", output_dir: str = "dist") -> list[str]:
    """Pack the bundles `names` (default: all) into `output_dir`; returns the archives."""
    available = sorted(path.parent.parent.name for path in ROOT.glob("bundles/*/configs/metadata.json"))
    chosen = available if names == "all" else [names] if isinstance(names, str) else list(names)
    unknown = sorted(set(chosen) - set(available))
    if unknown:
        raise InputError(f"bundle {unknown[0]} does not exist; choose from {', '.join(available)}")
    return [str(pack_one(name, Path(output_dir))) for name in chosen]


def pack_one(name: str, output_dir: Path) -> Path:
    """One bundle: the folder with links resolved, and its archive."""
    source, target = ROOT / "bundles" / name, output_dir / name
    version = json.loads((source / "configs" / "metadata.json").read_text())["version"]
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=False, ignore=shutil.ignore_patterns(*LEFT_OUT))
    archive = output_dir / f"{name}_v{version}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in target.rglob("*") if path.is_file()):
            info = zipfile.ZipInfo(str(path.relative_to(output_dir)), EPOCH)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(info, path.read_bytes())
    return archive


if __name__ == "__main__":
    explain_errors()
    fire.Fire(pack)
