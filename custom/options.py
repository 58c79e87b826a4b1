"""Options of a bundle on the command line. MONAI takes a mistyped one for a new entry of the config, and goes on."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, run
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS

from .errors import InputError, did_you_mean, explain_errors

MAY_BE_ZERO = ("num_workers", "warmup_epochs", "probe_interval")  # of the counts that a config sets above 0
logger = logging.getLogger(__name__)


def check_command_line() -> None:
    """What `run` of every config begins with: faults are said in one sentence, mistyped options among them."""
    explain_errors()
    refuse_unknown_options(sys.argv)


def refuse_unknown_options(words: Sequence[str]) -> None:
    """InputError for an option of a command `monai.bundle run` that no config of the bundle has.

    Args:
        words: the command line, `sys.argv`; any other command is let through.
    """
    if len(words) < 2 or words[1] != "run" or not Path(words[0]).as_posix().endswith("monai/bundle/__main__.py"):
        return
    given = options_in(words[2 : words.index("--")] if "--" in words else words[2:])
    given = options_of_file(given.get("args_file", "")) | given
    files = [Path(file) for file in as_list(given.get("config_file", ""))]
    if not files or not all(file.is_file() for file in files):
        return
    config = parse_configs(files).get()
    known = {*inspect.signature(run).parameters, *DEFAULT_MLFLOW_SETTINGS["configs"]}
    others = other_options(files)
    for name in given:
        if name in known or (hint := unknown_part(name, config)) is None:
            refuse_value(name, given[name], config)
            continue
        if name in others:
            logger.warning(f"option --{name} has no effect here; only {others[name]} reads it")
        else:
            raise InputError(f"option --{name} is none of this bundle's; {hint or 'correct it or leave it out'}")


def refuse_value(name: str, text: str, config: Mapping[str, Any]) -> None:
    """InputError for a value that is not of the kind of the config's own.

    That is a word, no expression, for a number, a list or a flag (any word counts as true, `false` as well; `true` is
    let through), and for a count of the bundle (epochs, sizes) a fraction, what is below 0, or 0.
    """
    from fire.parser import DefaultParseValue  # MONAI's command line, which alone needs it

    node: Any = config
    for part in name.lstrip("+").replace("::", "#").split("#"):
        node = child(node, part)
    due = {
        int: "a number",
        float: "a number",
        list: "a list, [1,2,3]",
        bool: "True or False, with a capital letter",
    }.get(type(node))
    value = DefaultParseValue(text)
    if due and isinstance(value, str) and not in_reference(value) and (type(node), value) != (bool, "true"):
        raise InputError(f"option --{name} is {text!r}, where the config has {node}; give {due}")
    least = 1 if node and name not in MAY_BE_ZERO else 0
    if type(config.get(name)) is int and isinstance(value, int | float) and (type(value) is not int or value < least):
        raise InputError(f"option --{name} is {text}; give a whole number of {least} or more")


def parse_configs(files: Sequence[str | Path]) -> ConfigParser:
    """Config files, later ones over earlier ones, nothing resolved; InputError if MONAI cannot read them."""
    names, parser = [str(file) for file in files], ConfigParser()
    try:
        parser.read_config(names)
    except Exception as error:  # of JSON or YAML, of a part that is not what it has to be, or of too many in each other
        raise InputError(
            f"{' and '.join(names)} cannot be read as configs ({error}); repair or replace them"
        ) from error
    return parser


def options_in(words: Sequence[str]) -> dict[str, str]:
    """Names and values of the options among words: `--name value` or `--name=value`."""
    found = {}
    for place, word in enumerate(words):
        if word.startswith("--") and word != "--":
            name, _, value = word[2:].partition("=")
            after = words[place + 1] if place + 1 < len(words) else ""
            found[name.replace("-", "_")] = value if "=" in word else after
    return found


def options_of_file(path: str) -> dict[str, str]:
    """Names and values of an `--args_file`, which MONAI has read before."""
    return {name: str(value) for name, value in ConfigParser.load_config_file(path).items()}


def as_list(text: str) -> list[str]:
    """Files of a `--config_file`: one, a list as Python writes it, or several with commas between."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two of brackets nested too deep
        value = text.split(",") if "," in text else text
    return [str(file) for file in value] if isinstance(value, list | tuple) else [str(value)] * bool(value)


def other_options(files: Sequence[Path]) -> dict[str, str]:
    """Options that only other configs of the same bundles have, and which."""
    found: dict[str, str] = {}
    for folder in {file.parent for file in files if file.parent.name == "configs"}:
        for path in sorted(folder.glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # whoever runs it will hear of it
            if isinstance(content, dict) and path.stem != "metadata":
                found |= {key: path.name for key in content if key not in found}
    return found


def unknown_part(name: str, config: Mapping[str, Any]) -> str | None:
    """None for the place of an entry in a config, or a new argument of a component of it; else a hint, perhaps empty.

    Args:
        name: places with `#` or `::` between.
        config: not resolved.
    """
    *folders, last = name.lstrip("+").replace("::", "#").split("#")
    node: Any = config
    for part in folders:
        node, inside = child(node, part), node
        if node is None:
            return near(part, inside)
    new_argument = isinstance(node, Mapping) and "_target_" in node and bool(folders)
    return None if new_argument or child(node, last) is not None or in_reference(node) else near(last, node)


def child(node: Any, part: str) -> Any:
    """The entry of a dictionary or list, which may be null; None where there is none."""
    if isinstance(node, Mapping):
        return None if part not in node else "" if node[part] is None else node[part]
    if isinstance(node, Sequence) and not isinstance(node, str) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    return None


def in_reference(node: Any) -> bool:
    """Whether what is there is known only when it is resolved."""
    return isinstance(node, str) and node.startswith(("@", "$", "%"))


def near(part: str, node: Any) -> str:
    """A hint at the entry that was meant, or nothing."""
    return did_you_mean(part, map(str, node), "") if isinstance(node, Mapping) else ""
