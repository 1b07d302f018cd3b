"""The hostile workload: `python3 attacks MODULE.FUNCTION ARGUMENT...`.

Each attack prints one line per attempt, `through ...` or `stopped ...`. The suite believes the record of the other side
more than these lines.
"""
import importlib
import sys

module, function = sys.argv[1].split(".")
getattr(importlib.import_module(module), function)(*sys.argv[2:])
