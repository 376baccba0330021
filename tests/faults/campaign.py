"""The fault campaign: every point at its release size, the results as a table and in benchmarks/results/faults.json.

python -m tests.faults.campaign [--only=REGEX] [--size=push|release] [--out=benchmarks/results/faults.json]

The same command continues an interrupted campaign: points that are in --out at this size are not run again; --again
runs them again. Results in the default --out are also written into docs/reliability.md. --list only names the points.
The exit code is 1 if a point has a failure. Needs Linux; some points need root (they mount small file systems), and say
so where they were left out.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import traceback

from tests.faults import registry

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
COMMAND = "python -m tests.faults.campaign"
HEAD = "| point | fault and promise | as promised |"
SHOWN = 10  # failures of a point in the results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression on the names of points")
    parser.add_argument("--size", choices=("push", "release"), default="release")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=registry.SEED)
    parser.add_argument("--again", action="store_true", help="run points again that are in --out")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        settle_environment(pathlib.Path(folder))
        points = {name: point for name, point in registry.load().items() if re.search(args.only, name)}
        points = {name: point for name, point in points.items() if getattr(point, args.size)}
        if args.list:
            print("\n".join(f"{name}: {getattr(point, args.size)} x {point.what}" for name, point in points.items()))
            return 0
        for number, (name, point) in enumerate(points.items()):
            earlier = read(args.out).get(name, {})
            if earlier.get("size") == args.size and not args.again:
                continue
            print(f"{name}: {getattr(point, args.size)} x {point.what}", flush=True)
            place = pathlib.Path(folder) / str(number)
            place.mkdir()
            row = measure(point, args.size, place, args.seed)
            store(args.out, name, row)
            print(f"  {describe(row)}", flush=True)
    if args.out == RESULTS:
        PAGE.write_text(with_table(PAGE.read_text(), table(read(RESULTS))))
    results = {name: row for name, row in read(args.out).items() if name in points}
    print(table(results))
    return 1 if any(row["failures"] for row in results.values()) else 0


def settle_environment(folder: pathlib.Path) -> None:
    """Set the variables of the tests: forced CPU devices, quick compilation, one folder for what was compiled."""
    os.environ.setdefault("COMPILED_BY_TESTS", str(folder / "compiled"))
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    import conftest  # noqa: F401


def measure(point: registry.Point, size: str, folder: pathlib.Path, seed: int) -> dict:
    """Return the result of a point as a row of the results."""
    started = time.monotonic()
    try:
        outcome = point.measure(size, folder, seed)
    except Exception as error:
        traceback.print_exc()
        outcome = registry.Outcome(1, [f"the point itself failed: {type(error).__name__} {error}"])
    row = {"what": point.what, "size": size, "trials": outcome.trials, "failures": len(outcome.failures)}
    if outcome.failures:
        row["failed"] = [text.replace(str(folder), "FOLDER")[:300] for text in outcome.failures[:SHOWN]]
    if outcome.skipped:
        row |= {"trials": 0, "skipped": outcome.skipped}
    return row | {"figures": outcome.figures, "seconds": round(time.monotonic() - started, 1)} | provenance(seed)


def provenance(seed: int) -> dict:
    """Return what a measurement depends on: the seed, versions, the machine and the commit."""
    from benchmarks.machine import machine

    commit = subprocess.run(("git", "rev-parse", "--short", "HEAD"), cwd=ROOT, capture_output=True, text=True).stdout
    place = machine()
    return {
        "seed": seed,
        "measured": datetime.date.today().isoformat(),
        "machine": f"{place['cpu']}, {place['cores']} cores",
        "python": place["python"],
        "jax": importlib.metadata.version("jax"),
        "commit": commit.strip(),
    }


def read(path: pathlib.Path) -> dict[str, dict]:
    """Return the rows by the name of their point."""
    return json.loads(path.read_text())["points"] if path.exists() else {}


def store(path: pathlib.Path, name: str, row: dict) -> None:
    """Add a row to the file; other points may have been measured by another process meanwhile."""
    from benchmarks import result_files

    rows = read(path) | {name: row}
    result_files.write(path, {"command": COMMAND, "points": dict(sorted(rows.items()))})


def describe(row: dict) -> str:
    """Return the count of a row: 200 of 200."""
    return row.get("skipped") or f"{row['trials'] - row['failures']} of {row['trials']}"


def table(rows: dict[str, dict]) -> str:
    """Return the results as a Markdown table, one row for all variants of a point; docs/reliability.md has it."""
    groups: dict[str, list[dict]] = {}
    for name, row in sorted(rows.items()):
        groups.setdefault(name.partition("[")[0], []).append(row)
    lines = [HEAD, "|---|---|---|"]
    for name, group in groups.items():
        trials, failures = (sum(row[key] for row in group) for key in ("trials", "failures"))
        total = {"trials": trials, "failures": failures}
        skipped = {row["skipped"]: "" for row in group if "skipped" in row}
        lines.append(f"| `{name}` | {group[0]['what']} | {'; '.join([describe(total)] * (trials > 0) + [*skipped])} |")
    return "\n".join(lines)


def with_table(text: str, new: str) -> str:
    """Return the text of a page with another table in place of the one that begins with `HEAD`."""
    before, _, rest = text.partition(HEAD)
    after = rest[rest.index("\n\n") :]
    return before + new + after


if __name__ == "__main__":
    sys.exit(main())
