"""Unusual paths of the source, the cache, the workdir and the results: all work, or an error names the path."""

import os
import pathlib

from tests.faults import jobs
from tests.faults.registry import Outcome, point
from tests.faults.tiny_datasets import both

FACES = 24
NAMES = {  # of a folder with everything of a run, and the exit code of its training and evaluation
    "unicode": ("caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{GRINNING FACE} \N{CJK UNIFIED IDEOGRAPH-4E2D}", 0),
    "spaces": ("  a  b  ", 0),
    "newline": ("new\nline", 0),
    "quotes": ('it\'s "so" $(x) `y` ; & | > <', 0),
    "formats": ("%s%n {x} {} {{y}} \\n", 0),
    "globs": ("a[1]*?.b", 0),
    "dashes": ("--workdir=-x", 0),
    "long": (os.path.join(*["x" * 200] * 8), 0),
    "dots": ("a/../b/./c//d", 0),
    "tilde inside": ("a~b/~c", 0),
    "not UTF-8": (os.fsdecode(b"caf\xe9"), 2),
}
FORMS = {  # of the same folder
    "home": lambda path: f"~/{path.name}",
    "relative": lambda path: os.path.relpath(path),
    "trailing slash": lambda path: f"{path}/",
}


def train_and_evaluate(folder, names):
    """Train and evaluate in each folder; return a line for each that did not end as promised."""
    import tiny_runs

    failures, os.environ["HOME"] = [], folder
    for name in names:
        part, code = NAMES.get(name, (name.replace(" ", "_"), 0))
        place = pathlib.Path(folder, part)
        place.mkdir(parents=True, exist_ok=True)
        config = tiny_runs.make_config(place, FACES)
        base = FORMS.get(name, str)(place)
        config.batch_size = 4
        config.data.update(source=os.path.join(base, "faces"), cache_dir=os.path.join(base, "cache"))
        workdir = os.path.relpath(place / " run ") if name == "spaces" else os.path.join(base, "run")
        ends = both(config, workdir, os.path.join(base, "out", ""))
        if [got for got, _ in ends] != ([code, 4] if code else [0, 0]):
            failures.append(f"{name}: {ends}")
        failures += [f"{name}: {text} names no path" for _, text in ends if text and place.name not in text]
        pages = [pathlib.Path(workdir, "report.html").expanduser(), place / "out" / "report.html"]
        failures += [] if code else [f"{name}: no {page}" for page in pages if not page.exists()]
    parts = [NAMES.get(name, (name.replace(" ", "_"),))[0] for name in names]
    ours = {part.partition("/")[0] for part in (*parts, *map(os.path.normpath, parts))}
    return failures + [f"{path.name!r} was made" for path in pathlib.Path(folder).iterdir() if path.name not in ours]


@point("unusual paths of source, cache, workdir and results: all work, or an error names the path", push=0, release=14)
def used(trials, rng, folder):
    names = [*NAMES, *FORMS][:trials]
    return Outcome(trials, jobs.call(train_and_evaluate, str(folder), names))
