"""The other end of `measure.in_child`: call a function of a module and print what it measured as JSON."""

from __future__ import annotations

import importlib
import json
import sys

from scripts.bench.measure import peak_mib


def main() -> None:
    """Arguments: module, function, its arguments as a JSON list."""
    module, function, arguments = sys.argv[1:4]
    measured = getattr(importlib.import_module(module), function)(*json.loads(arguments))
    sys.stdout.write("\n" + json.dumps({"MiB": peak_mib()} | measured) + "\n")


if __name__ == "__main__":
    main()
