"""Mutation testing: which small mistakes in the library the fast tests notice.

python -m tests.mutations --out=mutations.jsonl [--only=TEXT]

Each change of changes.py is made alone in a copy of the tree, where the tests listed with it run until one fails. The
same command continues an interrupted run; a line of --out is valid until the change, its tests or the changed
file differ. After that, the test that caught the change before runs first. The exit code is 0 if at least 90 % of the
changes are caught. All of them take one to two hours on two cores.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from tests.mutations.changes import CHANGES, Change

ROOT = pathlib.Path(__file__).parents[2]
REQUIRED = 0.9
TIMEOUT = 900  # seconds, after which a change counts as caught: the tests do not end


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="results, one JSON line a change")
    parser.add_argument("--only", default="", help="regular expression: run the changes whose FILE: NAME matches")
    args = parser.parse_args()
    changes = [change for change in CHANGES if re.search(args.only, f"{change.file}: {change.name}")]
    results = read_results(args.out)
    earlier = {result["name"]: result["by"] for result in results.values()}
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        tree = copy_tree(pathlib.Path(folder))
        passing: set[str] = set()
        for change in changes:
            key = identity(change)
            if key in results:
                continue
            for test in set(change.tests) - passing:
                if failure := first_failure(tree, (test,)):
                    sys.exit(f"{failure} fails without any change")
                passing.add(test)
            started = time.monotonic()
            failure = run_changed(tree, change, earlier.get(change.name))
            results[key] = {
                "name": change.name,
                "caught": failure is not None,
                "by": failure,
                "seconds": round(time.monotonic() - started),
            }
            with open(args.out, "a") as file:
                file.write(json.dumps({"key": key} | results[key]) + "\n")
            print(row(results[key]), flush=True)
    return summarise([results[identity(change)] for change in changes])


def read_results(path: pathlib.Path) -> dict[str, dict]:
    """Return the results of an earlier run, by the identity of the change."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.pop("key"): line for line in map(json.loads, lines)}


def identity(change: Change) -> str:
    """Return a hash of the change, its file and its tests."""
    files = [change.file, *(f"tests/{test.partition(' ')[0]}.py" for test in change.tests)]
    texts = [change.name, change.old, change.new, *change.tests, *((ROOT / file).read_text() for file in files)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def copy_tree(folder: pathlib.Path) -> pathlib.Path:
    """Copy the files of the working tree that git tracks."""
    names = subprocess.run(("git", "ls-files", "-z"), cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def run_changed(tree: pathlib.Path, change: Change, earlier: str | None) -> str | None:
    """Make the change, return the first test that fails, `earlier` before all others, and undo the change."""
    path = tree / change.file
    text = path.read_text()
    path.write_text(change.apply(text))
    try:
        if earlier and "::" in earlier and run_pytest(tree, f"tests/{earlier}").returncode == 1:
            return earlier
        return first_failure(tree, change.tests)
    finally:
        path.write_text(text)


def first_failure(tree: pathlib.Path, tests: tuple[str, ...]) -> str | None:
    """Run "FILE" or "FILE KEYWORDS" one after another; return the first test that fails, or None."""
    for test in tests:
        file, _, keywords = test.partition(" ")
        done = run_pytest(tree, f"tests/{file}.py", *(("-k", keywords) if keywords else ()))
        if done.returncode == 5:
            sys.exit(f"{test}: no such test")
        if done.returncode:
            failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
            return failed[1].removeprefix("tests/") if failed else f"{file}: {done.stdout.strip()[-200:]}"
    return None


def run_pytest(tree: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in the copy until the first failure, for at most TIMEOUT; exit code 1 is a failed test."""
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "COMPILED_BY_TESTS": str(tree / "compiled")}
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--timeout=0", *arguments]
    try:
        return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "does not end")


def row(result: dict) -> str:
    outcome = "caught" if result["caught"] else "MISSED"
    return f"{outcome} {result['seconds']:>4} s  {result['name']:<45} {result['by'] or ''}"


def summarise(results: list[dict]) -> int:
    caught = sum(result["caught"] for result in results)
    for result in results:
        if not result["caught"]:
            print(f"not caught: {result['name']}")
    print(f"{caught} of {len(results)} changes caught ({100 * caught / max(len(results), 1):.0f} %)")
    return 0 if caught >= REQUIRED * len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
