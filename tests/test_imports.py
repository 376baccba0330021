"""Arrows point down: no room imports one above it, and rooms of one floor only what is listed."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FLOORS = {
    0: ("errors", "structs", "labels", "config", "files"),
    1: ("models", "data", "synthetic", "losses", "metrics", "optim", "parallel"),
    2: ("training", "ensemble", "explain", "checkpoint", "loading", "evaluation", "report"),
    3: ("run",),
    4: ("cli",),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
BESIDE = {
    ("config", "errors"),
    ("data", "synthetic"),
    ("evaluation", "ensemble"),
    ("explain", "ensemble"),
    ("loading", "checkpoint"),
    ("report", "evaluation"),
}
ONLY_IN = {
    "absl": ("agegender_jax/cli", "launch"),
    "orbax": ("agegender_jax/checkpoint",),
    "tensorflow_datasets": ("agegender_jax/data/builder.py",),
    "grain": ("agegender_jax/data/pipeline.py",),
    "matplotlib": ("agegender_jax/report",),
    "jinja2": ("agegender_jax/report",),
    "rich": ("agegender_jax/run",),
    "tensorboardX": ("agegender_jax/run",),
    "tensorflow": (),
    "torch": ("agegender_jax/checkpoint/initial.py",),
    "safetensors": ("agegender_jax/checkpoint/initial.py",),
}
FILES = sorted(
    path.relative_to(ROOT) for top in ("agegender_jax", "launch", "configs") for path in (ROOT / top).rglob("*.py")
)


def imported(path):
    """Dotted names of all that a file imports, at any depth; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path):
    return path.parts[1].removesuffix(".py")


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "agegender_jax" and len(p.parts) > 1], ids=str)
def test_arrows_point_down(path):
    if room(path) == "__init__":  # only what needs no jax, so that --help is quick
        assert set(imported(path)) <= {"importlib", "typing.TYPE_CHECKING", "agegender_jax.loading.load"}
        return
    for name in imported(path):
        assert name.partition(".")[0] not in ("launch", "configs", "tests"), name
        parts = name.split(".")
        if parts[0] == "agegender_jax" and len(parts) > 1 and parts[1] in FLOOR and parts[1] != room(path):
            above = FLOOR[parts[1]] > FLOOR[room(path)]
            beside = FLOOR[parts[1]] == FLOOR[room(path)] and (room(path), parts[1]) not in BESIDE
            assert not above and not beside, f"{path} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_packages_stay_in_their_room(path):
    for name in imported(path):
        places = ONLY_IN.get(name.partition(".")[0])
        assert places is None or path.as_posix().startswith(tuple(places)), f"{path} imports {name}"


def test_every_room_has_a_floor():
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "agegender_jax").iterdir() if path.name[0] not in "_."}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize(
    "modules, missing",
    [
        ("models loading", ("grain", "tensorflow_datasets", "array_record", "tensorboardX")),
        # a second of each start
        ("run.train run.evaluate", ("matplotlib", "scipy.optimize", "scipy.sparse", "scipy.stats")),
    ],
)
def test_what_is_imported_only_when_it_is_needed(modules, missing):
    names = ", ".join(f"agegender_jax.{module}" for module in modules.split())
    program = f"import sys; sys.modules.update(dict.fromkeys({missing})); import {names}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
