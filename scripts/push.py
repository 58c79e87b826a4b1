"""A packed bundle to the Hugging Face hub, by MONAI's push_to_hf_hub, with its own model card.

    hf auth login
    python -m scripts.pack && python -m scripts.push USER/unetr_btcv unetr_btcv

MONAI makes the hub's README.md of docs/README.md, but puts a second front matter above it, which hides the first, and
leaves links to pictures broken. So the card is committed here, and MONAI uploads everything else.
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import HfApi
from monai.bundle import push_to_hf_hub

from custom.errors import InputError, explain_errors

from .bundle_files import copy_bundle
from .command_line import run_command_line

CARD = "README.md"


def push(
    repo: str, name: str, bundle_dir: str = "dist", token: str | None = None, private: bool = True, version: str = ""
) -> str:
    """Upload `<bundle_dir>/<name>` to the repository `repo` (USER/NAME), made when missing; returns its address.

    Args:
        repo: on the hub.
        name: of the bundle.
        bundle_dir: where `python -m scripts.pack` put it.
        token: of the hub; by default the one of `hf auth login`.
        private: whether a new repository is.
        version: a tag to make, none by default.
    """
    bundle = Path(bundle_dir) / name
    if not (bundle / "docs" / CARD).is_file() or (bundle / "custom").is_symlink():
        raise InputError(f"{bundle} is no packed bundle; make one in dist/ with: python -m scripts.pack {name}")
    hub = HfApi(token=token)
    hub.create_repo(repo, private=private, exist_ok=True)
    hub.upload_file(path_or_fileobj=card_of(bundle).encode(), path_in_repo=CARD, repo_id=repo)
    with TemporaryDirectory() as folder:  # MONAI writes its card into the bundle that it uploads
        copy_bundle(bundle, Path(folder) / name)
        return str(push_to_hf_hub(repo, name, folder, token, private, version or None, ignore_patterns=[CARD]))


def card_of(bundle: Path) -> str:
    """docs/README.md to be read one folder up: links into docs/ are adapted, those out of the bundle become text."""

    def adapt(link: re.Match[str]) -> str:
        text, target = link.groups()
        if "://" in target or target.startswith("#"):
            return link[0]
        return f"{text}(docs/{target})" if (bundle / "docs" / target).is_file() else text.strip("[]")

    return re.sub(r"(\[[^]]*\])\(([^)]+)\)", adapt, (bundle / "docs" / CARD).read_text(encoding="utf-8"))


if __name__ == "__main__":
    explain_errors()
    run_command_line(push)
