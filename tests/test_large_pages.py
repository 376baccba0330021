"""Large pages: a program of this library on a CPU restarts once, as it was called; other programs do not."""

import os
import subprocess
import sys

import programs
import pytest

from agegender_jax.run.host import interpreter, large_pages

COMMAND_LINE = ["python", "-X", "dev", "-m", "launch.train", "--config=a b"]


@pytest.fixture
def calls(tmp_path):
    """The calls of os.execv, on a system that offers large pages, in a program of this library without a GPU."""
    monkeypatch, calls, kernel = pytest.MonkeyPatch(), [], tmp_path / "enabled"
    kernel.write_text("always [madvise] never")
    monkeypatch.setattr(large_pages, "KERNEL", kernel)
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    monkeypatch.setattr(os, "execv", lambda *call: calls.append((*call, dict(os.environ))))
    monkeypatch.setattr(sys, "orig_argv", COMMAND_LINE)
    monkeypatch.setattr(sys, "executable", "/somewhere/python")
    monkeypatch.setattr(sys, "gettrace", lambda: None)  # the tests may run under coverage
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.setattr(interpreter, "GPU_DEVICES", (str(tmp_path / "gpu"),))
    monkeypatch.setattr(interpreter, "GPU_PLUGINS", ("json",))  # one that is installed
    yield calls
    monkeypatch.undo()
    os.environ.pop(large_pages.RESTARTED, None)


def test_a_program_whose_stdout_is_closed_starts_again(calls, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert large_pages.use_large() is None and len(calls) == 1


def test_the_program_starts_again_as_it_was_called(calls, monkeypatch):
    assert large_pages.use_large() is None
    ((path, argv, environment),) = calls
    assert path == "/somewhere/python" and argv == ["/somewhere/python", *COMMAND_LINE[1:]]
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    for name in ("GLIBC_TUNABLES", large_pages.RESTARTED):
        monkeypatch.setenv(name, environment[name])
    assert large_pages.use_large() is None and len(calls) == 1
    assert os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1" and large_pages.RESTARTED not in os.environ


@pytest.mark.parametrize(
    "argv",
    [
        ["-m", "pdb", "-m", "launch.train"],
        ["-m", "coverage", "run", "-m", "launch.train"],
        ["-m", "debugpy", "--listen", "1", "-m", "launch.train"],
        ["-m", "pytest", "launch.train"],
        ["-m", "launchers.train"],
        ["-c", "import launch.train"],
        ["/usr/bin/ipython", "-m", "launch.train"],
        ["-X", "-m", "script.py"],
        ["-"],
        [],
    ],
)
def test_another_program_gets_a_hint_instead(calls, monkeypatch, argv):
    monkeypatch.setattr(sys, "orig_argv", ["python", *argv])
    assert "GLIBC_TUNABLES=glibc.malloc.check=1:glibc.malloc.hugetlb=1" in large_pages.use_large()
    assert not calls and os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1"


@pytest.mark.parametrize(
    "argv",
    [
        ["-Im", "launch.train"],
        ["-OOm", "launch.audit"],
        ["-Wignore", "-mlaunch.train"],
        ["/usr/bin/agegender", "train"],
    ],
)
def test_other_ways_to_start_a_program(calls, monkeypatch, argv):
    monkeypatch.setattr(sys, "orig_argv", ["python", *argv])
    assert large_pages.use_large() is None and len(calls) == 1


@pytest.mark.parametrize("name", ["gettrace", "getprofile"])
def test_a_debugger_or_profiler_inside_the_process_is_not_restarted(calls, monkeypatch, name):
    monkeypatch.setattr(sys, name, lambda: print)
    assert large_pages.use_large() and not calls


@pytest.mark.parametrize(
    "platforms, visible, gpu, restarted",
    [("cpu", None, True, True), ("cuda", None, False, False), ("", None, True, False), ("", "", True, True)],
)
def test_only_on_the_cpu(calls, monkeypatch, tmp_path, platforms, visible, gpu, restarted):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if gpu:
        (tmp_path / "gpu").touch()
    assert large_pages.use_large() is None and len(calls) == restarted


@pytest.mark.parametrize("libc", ["glibc 2.31", "musl", None])
def test_other_libraries_are_unaffected(calls, monkeypatch, libc):
    monkeypatch.setattr(os, "confstr", lambda name: libc)
    assert large_pages.use_large() is None and not calls


def test_the_users_choice_is_respected(calls, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0")
    assert large_pages.use_large() is None
    assert not calls and os.environ["GLIBC_TUNABLES"] == "glibc.malloc.hugetlb=0"


@pytest.mark.parametrize("text", ["always madvise [never]", None])
def test_nothing_is_restarted_on_kernels_without_large_pages(calls, text):
    large_pages.KERNEL.write_text(text) if text else large_pages.KERNEL.unlink()
    assert large_pages.use_large() is None and not calls


def test_a_program_that_cannot_be_restarted_continues(calls, monkeypatch):
    def fail(*call):
        raise OSError

    monkeypatch.setattr(os, "execv", fail)
    assert large_pages.use_large() is None and os.environ["GLIBC_TUNABLES"] == "glibc.malloc.check=1"


SITE = """
import atexit, os
print("start", os.environ.get("GLIBC_TUNABLES"))
atexit.register(lambda: print("end", os.environ.get("GLIBC_TUNABLES")))
"""
HOST = """
import runpy, sys
sys.argv[1:] = ["--config=ran"]
try:
    runpy.run_module("launch.ablate", run_name="__main__")
except SystemExit as exit_:
    print("exit", exit_.code)
"""


@pytest.mark.skipif(not large_pages._offered(), reason="this system offers no large pages")
def test_starts_are_counted(tmp_path):
    """`ablate` without --workdir fails after the restart and before jax is imported."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    env = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "COVERAGE_RUN")}
    env |= {"PYTHONPATH": f"{tmp_path}:{programs.ROOT}", "JAX_PLATFORMS": "cpu"}

    def run(*command):
        done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith(("start", "end", "exit", "faster"))]

    first, second = "start None", "start glibc.malloc.hugetlb=1"
    assert run("-m", "launch.ablate", "--config=ran") == [first, second, "end None"]
    assert run("-m", "launch.ablate", "--config=ran", "--config.seedd=1") == [first, "end None"]
    assert run("-m", "launch.ablate", "--config=ran", "--config.seed=-1") == [first, "end None"]
    hint = "faster on this CPU with large memory pages: start Python with GLIBC_TUNABLES=glibc.malloc.hugetlb=1"
    assert run("-c", HOST) == [first, hint, "exit 2", "end None"]
