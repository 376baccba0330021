"""No data is run as code: what the library may not call, and what a stranger's files may not name."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("agegender_jax", "launch", "configs") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "xmlrpc", "telnetlib"}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
CALLS = {"os.system", "os.popen", "tempfile.mktemp", "jsonpickle.decode", "ctypes.CDLL"}
ALLOWED = {  # place: why
    "agegender_jax/run/host/large_pages.py: os.execv": "starts the same program again, with its own arguments",
    "agegender_jax/run/cluster/engine.py: import pickle": "what one command sends to its processes by Ray",
    "agegender_jax/cli/config_flag.py: exec_module": "--config=FILE.py is code that the user names on the command line",
}


def findings(path):
    """Yield what a file does that runs data as code."""
    name = path.relative_to(ROOT)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{name}: import {module}" for module in modules if module.partition(".")[0] in MODULES)
        if isinstance(node, ast.Attribute) and node.attr == "exec_module":
            yield f"{name}: exec_module"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in BUILTINS | CALLS or called.startswith(("os.exec", "os.spawn", "yaml.load")):
            yield f"{name}: {called}"
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        if options.get("shell", "False") != "False" or options.get("allow_pickle", "False") != "False":
            yield f"{name}: {called} with {options}"
        if called == "torch.load" and options.get("weights_only") != "True":
            yield f"{name}: torch.load without weights_only"
        if called.endswith(".extractall") and "filter" not in options:
            yield f"{name}: extractall without a filter"


def test_no_data_is_run_as_code():
    assert {text for path in SOURCES for text in findings(path)} == set(ALLOWED)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "eval(x)",
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "np.load(x, allow_pickle=True)",
        "torch.load(x)",
        "tar.extractall(x)",
        "yaml.load_all(x)",
    ],
)
def test_each_kind_is_found(code, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "a.py").write_text(code)
    assert list(findings(tmp_path / "a.py"))


def test_bandit_finds_nothing_of_medium_severity():
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "-ll", "agegender_jax", "launch", "configs"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
