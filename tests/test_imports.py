"""Imports point down: a package imports from lower levels, and from its own level only what is listed."""

import ast
import builtins
import functools
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LEVELS = (
    (
        "array_checks",
        "errors",
        "image_constants",
        "structs",
        "labels",
        "names",
        "config",
        "csv_cells",
        "files",
        "subsets",
        "suggestions",
        "tracing",
    ),
    ("models", "data", "synthetic", "losses", "metrics", "optim", "parallel", "configs", "extras"),
    (
        "training",
        "objective",
        "ensemble",
        "explain",
        "export",
        "checkpoint",
        "loading",
        "evaluation",
        "solve",
        "photos",
        "prediction",
        "report",
        "weights",
    ),
    ("run",),
    ("cli",),
)
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
SAME_LEVEL = {
    ("config", "errors"),
    ("config", "suggestions"),
    ("data", "synthetic"),
    ("evaluation", "ensemble"),
    ("explain", "ensemble"),
    ("export", "ensemble"),
    ("export", "prediction"),
    ("files", "errors"),
    ("loading", "checkpoint"),
    ("loading", "weights"),
    ("prediction", "ensemble"),
    ("prediction", "loading"),
    ("prediction", "photos"),
    ("prediction", "weights"),
    ("report", "evaluation"),
    ("report", "prediction"),
    ("training", "objective"),
    ("weights", "checkpoint"),
}
ONLY_IN = {
    "cv2": ("agegender_jax/photos",),
    "absl": ("agegender_jax/cli", "launch"),
    "orbax": ("agegender_jax/checkpoint",),
    "tensorflow_datasets": ("agegender_jax/data/tfds_builder.py",),
    "grain": ("agegender_jax/data/pipeline.py",),
    "matplotlib": ("agegender_jax/report",),
    "jinja2": ("agegender_jax/report",),
    "gradio": ("agegender_jax/run/demo/page.py",),
    "ray": ("agegender_jax/run/cluster",),
    "pyarrow": tuple(f"agegender_jax/run/pictures/parquet_{part}.py" for part in ("columns", "pictures", "rows")),
    "jax2onnx": ("agegender_jax/export",),
    "onnxruntime": ("agegender_jax/export",),
    "rich": ("agegender_jax/run",),
    "tensorboardX": ("agegender_jax/run",),
    "sklearn": ("agegender_jax/solve/region_sift.py",),
    "tensorflow": (),
    "torch": ("agegender_jax/checkpoint/initial_weights.py",),
    "safetensors": ("agegender_jax/checkpoint/initial_weights.py", "agegender_jax/weights"),
}


PREDICTOR = "agegender_jax.prediction.predictor.Predictor"


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


def imports():
    """Yield (path, dotted name) of every import in the library and its commands; `from a import b` gives a.b."""
    for top in ("agegender_jax", "launch", "configs"):
        for path in sorted((ROOT / top).rglob("*.py")):
            relative = path.relative_to(ROOT)
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Import):
                    yield from ((relative, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield from ((relative, "." * node.level + f"{node.module}.{alias.name}") for alias in node.names)


def package(path):
    return path.parts[1].removesuffix(".py")


def allowed(path, name):
    """Return whether a file of the library may import `name`."""
    first, *rest = name.split(".")
    if package(path) == "__init__":  # nothing that needs jax, so that --help is quick
        return name in ("importlib", "typing.TYPE_CHECKING", "typing.Any", "agegender_jax.loading.load", PREDICTOR)
    if first in ("", "launch", "configs", "tests", "benchmarks"):
        return False
    if first != "agegender_jax" or not rest or rest[0] not in LEVEL or rest[0] == package(path):
        return True
    below = LEVEL[rest[0]] < LEVEL[package(path)]
    return below or (package(path), rest[0]) in SAME_LEVEL


def test_packages_import_from_lower_levels_only():
    library = [(path, name) for path, name in imports() if path.parts[0] == "agegender_jax"]
    assert len(library) > 500
    assert [f"{path} imports {name}" for path, name in library if not allowed(path, name)] == []


def test_dependencies_are_imported_only_where_listed():
    violations = [
        f"{path} imports {name}"
        for path, name in imports()
        if not path.as_posix().startswith(tuple(ONLY_IN.get(name.partition(".")[0], ("",))))
    ]
    assert violations == []


def test_every_package_has_a_level():
    paths = [path for path in (ROOT / "agegender_jax").glob("[!_.]*") if path.name != "py.typed"]
    assert {path.name.removesuffix(".py") for path in paths} == set(LEVEL)


def test_no_public_name_hides_a_builtin():
    public = {}
    for path in (ROOT / "agegender_jax").rglob("*.py"):
        for node in parsed(path).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                public[path.relative_to(ROOT).as_posix()] = ast.literal_eval(node.value)
    assert "agegender_jax/models/__init__.py" in public
    assert {path: hidden for path, names in public.items() if (hidden := set(names) & set(dir(builtins)))} == {}


@pytest.mark.parametrize(
    "modules, missing",
    [
        ("models loading", ("grain", "tensorflow_datasets", "array_record", "tensorboardX")),
        # a second of each start
        ("run.train run.evaluate", ("matplotlib", "scipy.optimize", "scipy.sparse", "scipy.stats")),
    ],
)
def test_heavy_modules_are_imported_on_first_use(modules, missing):
    names = ", ".join(f"agegender_jax.{module}" for module in modules.split())
    program = f"import sys; sys.modules.update(dict.fromkeys({missing})); import {names}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
