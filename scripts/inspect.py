"""What a bundle would execute: `python -m scripts.inspect BUNDLE` lists it and executes none of it.

MONAI evaluates every string of a config that begins with `$` as Python, calls every `_target_`, and hands logging.conf
to a module of Python that evaluates parts of it. A config is code: read the list before you run a bundle of others.
"""

from __future__ import annotations

import ast
import builtins
import configparser
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from custom.errors import InputError, explain_errors

from .command_line import run_command_line

CONFIGS = (".json", ".yaml", ".yml")
# Packages that a config of this collection names; whatever lies outside of them deserves a look.
USUAL = ("monai", "torch", "ignite", "custom", "numpy", "math")
# Names in an expression that can run other code, reach files or the network, or leave the sandbox of an expression.
UNUSUAL = {
    "eval", "exec", "compile", "open", "input", "globals", "locals", "vars", "getattr", "setattr", "delattr",
    "breakpoint", "system", "popen", "spawn", "fork", "remove", "unlink", "rmtree", "rename", "chmod", "load", "loads",
    "hub", "urlopen", "urlretrieve", "request", "requests", "urllib", "socket", "subprocess", "shutil", "importlib",
    "pickle", "ctypes", "builtins", "runpy", "pty", "http", "ftplib", "marshal", "download_url", "extractall",
    "download_and_extract", "optional_import", "run_cmd",
}  # fmt: skip


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
        sys.stdout.write(f"{one.file}: {one.place}: {one.kind} {one.text}{mark}\n")
    counts = Counter(one.kind for one in found)
    kinds = ", ".join(f"{count} of kind {kind}" for kind, count in counts.items())
    sys.stdout.write(f"{kinds}; {len(suspicious)} marked\n")


def findings(bundle: Path) -> Iterator[Found]:
    """Everything that running the bundle's configs can execute, file by file, in the order of the files.

    Raises:
        InputError: no folder, no config in it, or one that cannot be read.
    """
    configs = sorted(path for path in (bundle / "configs").glob("*") if path.suffix in CONFIGS)
    if not configs:
        raise InputError(f"{bundle} has no configs/*.json; give the folder of a bundle")
    for path in configs:
        name = str(path.relative_to(bundle))
        yield from (Found(name, *one) for one in executed(read_config(path)))
    for path in sorted(bundle.glob("configs/*.conf")):
        yield from (Found(str(path.relative_to(bundle)), *one) for one in logging_code(path))
    yield from other_files(bundle)


def read_config(path: Path) -> Any:
    """The content, nothing of it resolved."""
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}), so nobody can tell what it does; do not run it") from error


def executed(content: Any, place: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(place, kind, text, reason) of all that MONAI's parser would evaluate, call or read."""
    if isinstance(content, dict):
        for key, value in content.items():
            inner = f"{place}#{key}".lstrip("#")
            if key == "_target_" and isinstance(value, str) and not value.startswith("$"):
                yield inner, "target", value, unusual_target(value)
            else:
                yield from executed(value, inner)
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from executed(value, f"{place}#{index}".lstrip("#"))
    elif isinstance(content, str) and content.startswith("$"):
        yield place, "expression", content, unusual_expression(content[1:])
    elif isinstance(content, str) and content.startswith("%"):
        yield place, "macro", content, "reads another file" if any(suffix in content for suffix in CONFIGS) else ""


def unusual_target(target: str) -> str:
    """Why a callable deserves a look. A name without dots is one of MONAI's, or else of Python's own."""
    package, *rest = target.split(".")
    if not rest:
        return f"Python's {target}" if hasattr(builtins, target) else ""
    if package not in USUAL:
        return f"of {package}"
    return next((f"uses {part}" for part in rest if part in UNUSUAL), "")


def unusual_expression(text: str) -> str:
    """Why an expression deserves a look."""
    source = text.replace("@", "ref_").replace("#", "_").replace("::", "_")
    try:
        tree = ast.parse(source.strip())
    except (SyntaxError, ValueError, RecursionError):
        return "not understood"
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if other := [name for name in names if name.partition(".")[0] not in (*USUAL, "os")]:
                return f"imports {other[0]}"
        name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
        if name in UNUSUAL or name.startswith("__"):
            return f"uses {name}"
    return ""


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
    """Python files, weights that are pickles, links that lead out of the bundle, and files to be downloaded."""
    inside = bundle.resolve()
    for path in sorted(bundle.rglob("*")):
        name = str(path.relative_to(bundle))
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            yield Found(name, "link", "file", f"-> {path.resolve()}", "outside of the bundle")
        elif path.suffix == ".py":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            yield Found(name, "code", "file", f"sha256 {digest}...", "" if name.startswith("custom/") else "own code")
        elif path.suffix in (".ts", ".so", ".pkl", ".pickle", ".sh", ".onnx", ".plan"):
            yield Found(name, "code", "file", path.suffix, "runs when it is loaded" if path.suffix != ".onnx" else "")
        elif path.name.startswith("large_files"):
            for item in (read_config(path) or {}).get("large_files", []):
                hashed = "" if item.get("hash_val") else "without a hash"
                yield Found(name, str(item.get("path")), "download", str(item.get("url")), hashed)


if __name__ == "__main__":
    explain_errors()
    run_command_line(inspect_bundle)
