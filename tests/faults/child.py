"""A program for forked processes: call a function, then become launch.train, or print what the function returns.

python -m tests.faults.child MODULE:FUNCTION JSON-LIST [argument of launch.train ...]
"""

import importlib
import json
import runpy
import sys


def main():
    place, values, *arguments = sys.argv[1:]
    module, _, name = place.partition(":")
    result = getattr(importlib.import_module(module), name)(*json.loads(values))
    if not arguments:
        print(json.dumps(result))
        return
    sys.argv = ["launch/train.py", *arguments]
    sys.orig_argv = [sys.executable, "-m", "launch.train", *arguments]
    runpy.run_module("launch.train", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
