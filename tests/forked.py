"""Run programs in forked children of one helper process that has imported their modules; each start is seconds shorter.

As a program it is that helper: a line of JSON on stdin for each request, a line of JSON on stdout for each reply.
"""

import atexit
import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).parents[1]
IMPORTED = (
    *(
        "agegender_jax.run.train",
        "agegender_jax.run.training.solve",
        "agegender_jax.run.evaluate",
        "agegender_jax.run.audit",
    ),
    *("agegender_jax.run.explain", "agegender_jax.run.ablate.ablation", "agegender_jax.run.host.devices"),
    *("agegender_jax.data.tfds_builder", "grain.python", "cv2"),
    *("scipy.optimize", "scipy.stats", "scipy.sparse.csgraph"),
)
_helper: subprocess.Popen | None = None


def run(argv, cwd, env, timeout):
    """Run `launch.NAME` as argv = [python, "-m", "launch.NAME", ...] says, as subprocess.run with captured output."""
    child = start(argv, cwd, env)
    try:
        code = child.wait(timeout)
    finally:
        child.kill()
    return subprocess.CompletedProcess(argv, code, *child.outputs())


def start(argv, cwd, env, stdout=None):
    """Start the program, as `run` does, and return its Child; its process is a real one, to be signalled or killed."""
    return Child(argv, cwd, env, stdout)


class Child:
    """A forked program.

    Args:
      stdout: path that it writes to, instead of a file of its own.

    Attributes:
      pid: of its process; it stays taken until `wait` has returned.
      code: exit code, or minus the signal's number; None before the end was waited for.
    """

    def __init__(self, argv, cwd, env, stdout=None):
        self.argv, self.code = argv, None
        self._folder = tempfile.TemporaryDirectory()
        outputs = [str(stdout or pathlib.Path(self._folder.name, "stdout")), os.path.join(self._folder.name, "stderr")]
        request = {"module": argv[2], "argv": argv[3:], "cwd": str(cwd), "env": dict(env), "outputs": outputs}
        self._helper = _start_helper()
        self.pid = self._ask({"fork": request})

    def wait(self, timeout):
        """Return the exit code; raise subprocess.TimeoutExpired if the program runs on."""
        if self.code is None:
            self.code = self._ask({"wait": self.pid, "timeout": timeout})
        if self.code is None:
            raise subprocess.TimeoutExpired(self.argv, timeout)
        return self.code

    def poll(self):
        """Return the exit code, None while the program runs."""
        if self.code is None:
            self.code = self._ask({"wait": self.pid, "timeout": 0})
        return self.code

    def send_signal(self, number):
        """Send a signal, unless the end was waited for."""
        if self.code is None:
            os.kill(self.pid, number)

    def kill(self):
        """Kill the program if it still runs, and wait for its end."""
        self.send_signal(signal.SIGKILL)
        self.wait(60)

    def outputs(self):
        """Return what was written so far to stdout and stderr."""
        paths = (pathlib.Path(self._folder.name, name) for name in ("stdout", "stderr"))
        return [path.read_text() if path.exists() else "" for path in paths]

    def _ask(self, request):
        self._helper.stdin.write(json.dumps(request) + "\n")
        self._helper.stdin.flush()
        return json.loads(self._helper.stdout.readline())


def _start_helper():
    global _helper
    if _helper is None or _helper.poll() is not None:
        command = [sys.executable, __file__]
        _helper = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(_stop, _helper)
    return _helper


def _stop(helper):
    """End the helper, which ends its children first."""
    helper.stdin.close()
    try:
        helper.wait(10)
    except subprocess.TimeoutExpired:
        helper.kill()
        helper.wait()


def _child(module, argv, cwd, env, outputs):
    """Become the program; never returns."""
    code = 1
    try:
        for stream, path in enumerate(outputs, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = [str(ROOT / f"{module.replace('.', '/')}.py"), *argv]
        sys.orig_argv = [sys.executable, "-m", module, *argv]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        threading._shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(pid, timeout):
    """Return the exit code, or None if the process still runs after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.005)


def main():
    sys.path.insert(0, str(ROOT))
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("agegender_jax.run.workdir.metrics_log").tensorboard()
    assert not sys.modules["jax._src.xla_bridge"].backends_are_initialized()  # their threads do not survive a fork
    replies, running = os.fdopen(os.dup(1), "w"), set()
    for line in sys.stdin:
        request = json.loads(line)
        if "fork" in request:
            reply = os.fork()
            if not reply:
                os.close(0)
                os.open(os.devnull, os.O_RDONLY)
                os.setsid()  # no signal of a terminal reaches it
                _child(**request["fork"])
            running.add(reply)
        else:
            reply = _wait(request["wait"], request["timeout"])
            running -= {request["wait"]} if reply is not None else set()
        print(json.dumps(reply), file=replies, flush=True)
    for pid in running:  # the process that started them has ended
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
