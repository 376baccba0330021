"""Run programs in forked children of one helper process that has imported their modules; each start is seconds shorter.

As a program it is that helper: a line of JSON on stdin for each child, its exit code on stdout.
"""

import atexit
import importlib
import json
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile
import threading
import traceback

ROOT = pathlib.Path(__file__).parents[1]
IMPORTED = ("run.train", "run.evaluate", "run.audit", "run.explain", "run.ablate.ablation", "run.host.devices")
_helper: subprocess.Popen | None = None


def run(argv, cwd, env, timeout):
    """Run `launch.NAME` as argv = [python, "-m", "launch.NAME", ...] says, as subprocess.run with captured output."""
    helper = _start_helper()
    with tempfile.TemporaryDirectory() as folder:
        outputs = [os.path.join(folder, name) for name in ("stdout", "stderr")]
        request = {"module": argv[2], "argv": argv[3:], "cwd": str(cwd), "env": dict(env), "outputs": outputs}
        timer = threading.Timer(timeout, helper.kill)
        timer.start()
        try:
            helper.stdin.write(json.dumps(request) + "\n")
            helper.stdin.flush()
            code = int(helper.stdout.readline())
        except ValueError:  # the helper was killed
            raise subprocess.TimeoutExpired(argv, timeout) from None
        finally:
            timer.cancel()
        stdout, stderr = (pathlib.Path(path).read_text() for path in outputs)
    return subprocess.CompletedProcess(argv, code, stdout, stderr)


def _start_helper():
    global _helper
    if _helper is None or _helper.poll() is not None:
        command = [sys.executable, __file__]
        _helper = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        atexit.register(_stop, _helper)
    return _helper


def _stop(helper):
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


def main():
    sys.path.insert(0, str(ROOT))
    for name in IMPORTED:
        importlib.import_module(f"agegender_jax.{name}")
    assert not sys.modules["jax._src.xla_bridge"].backends_are_initialized()  # their threads do not survive a fork
    replies = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            os.close(0)
            os.open(os.devnull, os.O_RDONLY)
            _child(**json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=replies, flush=True)


if __name__ == "__main__":
    main()
