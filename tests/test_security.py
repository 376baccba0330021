"""No data is run as code: what the library may not call, and what untrusted files may not name."""

import ast
import http.server
import importlib.metadata
import json
import pathlib
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(path for folder in ("agegender_jax", "launch", "configs") for path in (ROOT / folder).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "xmlrpc", "telnetlib"}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
CALLS = {"os.system", "os.popen", "tempfile.mktemp", "jsonpickle.decode", "ctypes.CDLL"}
ALLOWED = {  # place: why
    "agegender_jax/run/host/large_pages.py: os.execv": "starts the same program again, with its own arguments",
    "agegender_jax/cli/config_flag.py: exec_module": "--config=FILE.py is code that the user names on the command line",
}
ACCEPTED = {}  # id of a known vulnerability of a dependency: why it does no harm here


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


def audit(*flags):
    """Return {"package version: id": description} of the known vulnerabilities, as pip-audit reports them."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off", "--desc=on", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return {
        f"{package['name']} {package['version']}: {known['id']}": known["description"]
        for package in json.loads(done.stdout)["dependencies"]
        for known in package.get("vulns", ())
        if known["id"] not in ACCEPTED
    }


@pytest.mark.timeout(330)
def test_the_installed_packages_have_no_known_vulnerability():
    url = f"https://pypi.org/pypi/numpy/{importlib.metadata.version('numpy')}/json"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert "vulnerabilities" in json.load(answer)
    except (OSError, ValueError):
        pytest.skip("PyPI's vulnerability service is not reachable")
    known = audit("--local", "--skip-editable")
    assert {name: text for name, text in known.items() if not name.startswith("pip ")} == {}  # pip came with venv


def test_a_known_vulnerability_is_reported(tmp_path):
    class Service(http.server.BaseHTTPRequestHandler):
        """OSV's interface, with one vulnerability of every package."""

        def do_POST(self):
            affected = [{"package": {"ecosystem": "PyPI", "name": "example"}, "versions": ["1.0"]}]
            known = {"id": "PYSEC-0", "details": "a flaw", "affected": affected, "published": "2026-01-01T00:00:00Z"}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"vulns": [known]}).encode())

    package = tmp_path / "example-1.0.dist-info" / "METADATA"
    package.parent.mkdir()
    package.write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    with http.server.HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1/query"
        known = audit("--vulnerability-service=osv", f"--osv-url={url}", f"--path={tmp_path}")
        server.shutdown()
    assert known == {"example 1.0: PYSEC-0": "a flaw"}


def calls(file, function):
    """Return the calls of a function in a file."""
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(function)]


def test_the_demo_is_for_this_machine_and_uploads_are_bounded():
    defined = calls("agegender_jax/cli/demo.py", "DEFINE_string") + calls("agegender_jax/cli/demo.py", "DEFINE_integer")
    flags = {call.args[0].value: [ast.unparse(argument) for argument in call.args[1:]] for call in defined}
    assert flags["host"][0] == "'127.0.0.1'" and flags["max_mb"][::2] == ["20", "1"]
    (launch,) = calls("agegender_jax/run/demo/page.py", "page.launch")
    options = {option.arg: ast.unparse(option.value) for option in launch.keywords}
    assert options["server_name"] == "_in_address(host)" and options["max_file_size"] == "max_mb * 10 ** 6"
    closed = ("share", "run_history", "ssr_mode", "pwa", "mcp_server", "enable_monitoring", "inbrowser")
    assert all(options[name] == "False" for name in closed)


@pytest.mark.slow
def test_the_demo_listens_on_loopback_and_keeps_nothing(tmp_path, monkeypatch):
    pytest.importorskip("gradio", reason="gradio is not installed")
    from agegender_jax.run.demo import page

    monkeypatch.setattr(page.tempfile, "tempdir", str(tmp_path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def upload(size):
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"x" * size
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request(f"{address}gradio_api/upload", body + b"\r\n--x--\r\n", headers)
        return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).status

    with page.served(lambda content: "", "127.0.0.1", port, 1) as address:
        assert upload(1000) == 200
        with pytest.raises(urllib.error.HTTPError, match="413"):
            upload(10**6 + 10)
        own = socket.gethostbyname(socket.gethostname())
        if not own.startswith("127."):
            with pytest.raises(OSError), socket.create_connection((own, port), 2):
                pass
    assert list(tmp_path.iterdir()) == []
