"""What a bundle would execute: `python -m scripts.inspect BUNDLE` lists it and executes none of it.

MONAI evaluates every string of a config that begins with `$` as Python, calls every `_target_`, and hands logging.conf
to a module of Python that evaluates parts of it. A config is code: read the list before you run a bundle of others.
"""

from __future__ import annotations

import ast
import builtins
import configparser
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from custom.errors import InputError, explain_errors

from .command_line import run_command_line
from .release_files import sha256

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = (".json", ".yaml", ".yml")
WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")
REFERENCE = re.compile(r"@[\w#:]+")
RUNNING = (".ts", ".so", ".pkl", ".pickle", ".sh", ".plan")  # what runs, or can, when it is loaded


class Found(NamedTuple):
    """One thing that would be executed, or that is not what it seems. reason: why to look at it, "" for none."""

    file: str
    place: str
    kind: str
    text: str
    reason: str


def inspect_bundle(bundle: str, marked: bool = False) -> None:
    """List the expressions, targets and other code of a bundle; an arrow marks what deserves a second look, and why.

    The marks are a help for the eye. What bears none can still do harm.

    Args:
        bundle: its folder.
        marked: list only what is marked.
    """
    found = list(findings(Path(bundle)))
    suspicious = [one for one in found if one.reason]
    for one in suspicious if marked else found:
        mark = f"  <- {one.reason}" if one.reason else ""
        sys.stdout.write(f"{one.file!a}: {one.place!a}: {one.kind} {one.text!a}{mark}\n")  # no text moves the cursor
    counts = Counter(one.kind for one in found)
    kinds = ", ".join(f"{count} of kind {kind}" for kind, count in counts.items())
    sys.stdout.write(f"{kinds}; {len(suspicious)} marked\n")


def findings(bundle: Path) -> Iterator[Found]:
    """Everything that running the bundle's configs can execute, file by file, in the order of the files.

    Raises:
        InputError: no folder, no config in it, or one that cannot be read.
    """
    configs = sorted(path for path in bundle.rglob("*") if path.suffix in CONFIGS and path.is_file())
    if not configs:
        raise InputError(f"{bundle} has no configs/*.json; give the folder of a bundle")
    for path in configs:
        name = str(path.relative_to(bundle))
        yield from (Found(name, *one) for one in executed(read_config(path)))
    for path in sorted(bundle.rglob("*.conf")):
        yield from (Found(str(path.relative_to(bundle)), *one) for one in logging_code(path))
    yield from other_files(bundle)


def read_config(path: Path) -> Any:
    """The content, nothing of it resolved."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}), so nobody can tell what it does; do not run it") from error


def executed(content: Any) -> Iterator[tuple[str, str, str, str]]:
    """(place, kind, text, reason) of all that MONAI's parser would evaluate, call or read."""
    reasons = {
        "target": unusual_target,
        "expression": lambda text: unusual_expression(text[1:]),
        "macro": unusual_macro,
    }
    for place, kind, text in strings(content):
        yield place, kind, text, reasons[kind](text)


def strings(content: Any, place: str = "") -> Iterator[tuple[str, str, str]]:
    """(place, kind, text) of all strings that mean something to MONAI's parser."""
    if isinstance(content, dict | list):
        pairs = content.items() if isinstance(content, dict) else enumerate(content)
        for key, value in pairs:
            yield from strings(value, f"{place}#{key}".lstrip("#"))
    elif isinstance(content, str) and content.startswith("$"):
        yield place, "expression", content
    elif isinstance(content, str) and place.rpartition("#")[2] == "_target_":
        yield place, "target", content
    elif isinstance(content, str) and content.startswith("%"):
        yield place, "macro", content


def unusual_macro(text: str) -> str:
    """Why a part copied from elsewhere deserves a look."""
    return "reads another file" if any(suffix in text for suffix in CONFIGS) else ""


def unusual_target(target: str) -> str:
    """Why a callable deserves a look: this project's configs do not call it. A class without dots is one of MONAI's."""
    if target.startswith(("@", "%")):
        return "named elsewhere"
    if hasattr(builtins, target):
        return f"Python's {target}"
    is_class = "." not in target and target[:1].isupper()
    return "" if is_class or target in usual() else "not called by the configs of this project"


def unusual_expression(text: str) -> str:
    """Why an expression deserves a look: it has names that no config of this project has."""
    try:
        names = names_in(text)
    except (SyntaxError, ValueError, RecursionError):
        return "not understood"
    new = sorted(name for name in names if name not in usual())
    return f"uses {new[0]}" if new else ""


def names_in(text: str) -> set[str]:
    """Names, attributes and modules of an expression, but for references, and arguments and variables of its own."""
    tree = ast.parse(REFERENCE.sub("REFERENCE", text).strip())
    names, own = set(), {"REFERENCE"}
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, ast.Name):
            (own if isinstance(node.ctx, ast.Store) else names).add(node.id)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names} | {getattr(node, "module", None) or ""} - {""}
    return names - own


@cache
def usual() -> frozenset[str]:
    """What the configs of this project call and name."""
    found = set()
    for path in (ROOT / "bundles").glob("*/configs/*.json"):
        for _, kind, text in strings(json.loads(path.read_text(encoding="utf-8"))):
            found |= {text} if kind == "target" else names_in(text[1:]) if kind == "expression" else set()
    return frozenset(found)


def logging_code(path: Path) -> Iterator[tuple[str, str, str, str]]:
    """What Python's logging evaluates of a configuration: classes and their arguments."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); do not run it") from error
    for section in parser.sections():
        for key in ("class", "args", "kwargs"):
            text = parser.get(section, key, fallback="")
            plain = text in ("", "StreamHandler", "(sys.stderr,)", "(sys.stdout,)")
            if text:
                yield f"{section}.{key}", "logging", text, "" if plain else "evaluated by Python"


def other_files(bundle: Path) -> Iterator[Found]:
    """Python files, weights, links that lead out of the bundle, and files to be downloaded."""
    inside = bundle.resolve()
    for path in sorted(bundle.rglob("*")):
        name = str(path.relative_to(bundle))
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            own = path.resolve() == ROOT / "custom"  # the code that this checkout's bundles share
            yield Found(name, "link", "file", f"-> {path.resolve()}", "" if own else "outside of the bundle")
        elif path.suffix == ".py":
            digest = sha256(path)
            theirs = ROOT / name if name.startswith("custom/") else None
            same = theirs is not None and theirs.is_file() and sha256(theirs) == digest
            yield Found(name, "code", "file", f"sha256 {digest[:12]}...", "" if same else "not this project's")
        elif path.suffix in RUNNING + WEIGHTS:
            yield Found(name, "data", "file", path.suffix, "can run when it is loaded" * (path.suffix in RUNNING))
        elif path.name.startswith("large_files"):
            content = read_config(path)
            items = content.get("large_files") if isinstance(content, dict) else content
            for item in [item for item in items or [] if isinstance(item, dict)]:
                hashed = "" if item.get("hash_val") else "without a hash"
                yield Found(name, str(item.get("path")), "download", str(item.get("url")), hashed)


if __name__ == "__main__":
    explain_errors()
    run_command_line(inspect_bundle)
