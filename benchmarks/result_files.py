"""Read and write the measurements in benchmarks/results: JSON with one measurement per line.

python -m benchmarks.result_files runs/ablations/tasks/ablation.json ablation_tasks    # copy a program's output there
"""

import argparse
import itertools
import json
import pathlib
from typing import Any

from agegender_jax import files
from agegender_jax.cli.exits import guard

RESULTS = pathlib.Path(__file__).parent / "results"
LONGEST = 2400  # characters of a value that stays on one line


def read(name: str) -> Any:
    """Return the value in results/<name>.json."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def write(path: pathlib.Path, value: Any) -> None:
    """Replace `path` by `value` (dicts, sequences, NumPy scalars and arrays) as compact JSON."""
    files.replace(path, compact(json.loads(files.to_json(value))) + "\n")


def compact(value: Any, indent: int = 0) -> str:
    """Return JSON in which only lists and objects longer than LONGEST are broken.

    Each of their lists and objects then has a line of its own, or several; numbers and strings in a row share one.
    """
    line = json.dumps(value)
    if len(line) <= LONGEST or not isinstance(value, dict | list):
        return line
    if isinstance(value, dict):
        items = [(item, f"{json.dumps(key)}: {compact(item, indent + 1)}") for key, item in value.items()]
        first, last = "{}"
    else:
        items = [(item, compact(item, indent + 1)) for item in value]
        first, last = "[]"
    lines: list[str] = []
    for nested, group in itertools.groupby(items, lambda item: isinstance(item[0], dict | list)):
        texts = [text for _, text in group]
        lines += texts if nested else [", ".join(texts)]
    separator = "\n" + " " * (indent + 1)
    return first + separator + f",{separator}".join(lines) + "\n" + " " * indent + last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=pathlib.Path, help="a JSON file, e.g. a run's results.json")
    parser.add_argument("name", help="file name below benchmarks/results, without .json")
    args = parser.parse_args()
    write(RESULTS / f"{args.name}.json", json.loads(args.source.read_text()))


if __name__ == "__main__":
    guard(main)
