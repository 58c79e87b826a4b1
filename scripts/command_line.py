"""The command line of a function by fire, which would run it first and complain of a mistyped option afterwards."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import fire

from custom.errors import did_you_mean

FLAG = r"(?:^|(?<==))(true|false)$"
Commands = Callable[..., Any] | Mapping[str, Callable[..., Any]]


def run_command_line(commands: Commands) -> None:
    """Run a function, or one of several by name, with the options of this process; exit if one of them is unknown.

    `true` and `false` are flags, as in JSON; to fire they would be words, and both true.
    """
    words = sys.argv[1:] = [re.sub(FLAG, _capitalised, word) for word in sys.argv[1:]]
    function = commands.get(words[0] if words else "") if isinstance(commands, Mapping) else commands
    if function is not None:
        refuse_unknown(words, inspect.signature(function).parameters)
    fire.Fire(commands)


def _capitalised(match: re.Match[str]) -> str:
    return match[0].capitalize()


def refuse_unknown(words: list[str], parameters: Mapping[str, inspect.Parameter]) -> None:
    """Exit with a sentence for the first option that is none of `parameters`; what follows a lone -- is fire's own."""
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    own = words[: words.index("--")] if "--" in words else words
    for word in (word for word in own if word.startswith("--")):
        name = word[2:].partition("=")[0].replace("-", "_")
        if name not in (*parameters, "help") and name.removeprefix("no") not in parameters:
            hint = did_you_mean(name, parameters, f"there are --{', --'.join(parameters)}", prefix="--")
            sys.exit(f"option {word} is unknown; {hint}")
