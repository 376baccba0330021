"""Run the programs as a user does, on a few small faces."""

import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time

import forked

ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
    "--config=configs/resnet.py",
    "--config.model.width=0.125",
    "--config.data.image_size=32",
    "--config.num_steps=60",
    "--config.log.every_steps=5",
    "--config.log.figures=False",  # a third of the time of a short run
    "--config.checkpoint.every_steps=10",
)
TIMING = ("images_per_second", "data_wait")


def unpack(archive, folder):
    """Extract a tar file, safely where Python can: the 3.11.2 of Debian has no filters."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))


def command(name, *arguments):
    return [sys.executable, "-m", f"launch.{name}", *map(str, arguments)]


def environment(devices=1):
    return os.environ | {"XLA_FLAGS": re.sub("device_count=[0-9]+", f"device_count={devices}", os.environ["XLA_FLAGS"])}


def run(name, *arguments, devices=1, cwd=ROOT):
    """Return the finished program, its output as text. It runs in a fork of a process with all imports done."""
    env = environment(devices) | {"PYTHONPATH": str(ROOT)}
    return forked.run(command(name, *arguments), cwd, env, timeout=240)


def fork(name, *arguments, devices=1, variables=None, stdout=None):
    """Start a program in a fork of a process with all imports done; return a `forked.Child`.

    Args:
      name: of a module in launch, or a module's dotted name.
      variables: of the environment. stdout: path that it writes to.
    """
    argv = command(name, *arguments)
    if "." in name:
        argv[2] = name
    return forked.start(argv, ROOT, environment(devices) | {"PYTHONPATH": str(ROOT)} | (variables or {}), stdout)


def start(name, *arguments, devices=1, cwd=ROOT, prefix=(), python=(), variables=None):
    """Return the finished program, its output as text, in a process of its own: seconds slower than `run`.

    Args:
      prefix: a command that starts it. python: options of the interpreter.
      variables: of the environment.
    """
    env = environment(devices) | {"PYTHONPATH": str(ROOT)} | (variables or {})
    executable, *rest = command(name, *arguments)
    argv = (*prefix, executable, *python, *rest)
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def check(done, code, *texts):
    """Assert three short lines, no stack trace, the code, and each text somewhere in them."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 3 and "Traceback" not in done.stderr, done.stderr
    assert [line.split(":")[0].strip() for line in lines] == ["error", "where", "fix"]
    for text in texts:
        assert text in done.stderr, done.stderr


def run_until(step, signal_name, workdir, *arguments, name="train", watched=None):
    """Train, send the signal `signal_name` once a line of `step` or later is logged; return the exit code and stderr.

    Args:
      watched: the workdir of the run whose log counts, where the program has several.
    """
    process = fork(name, *arguments, f"--workdir={workdir}")
    try:
        while process.poll() is None and not any(row["step"] >= step for row in rows(watched or workdir)):
            time.sleep(0.02)
        process.send_signal(getattr(signal, signal_name))
        return process.wait(120), process.outputs()[1]
    finally:
        process.kill()


def run_two_processes(*arguments, own=((), ()), during=None, environments=None):
    """Run launch.train in two processes that connect; return exit codes, stdouts and stderrs, process by process.

    Args:
      own: further arguments of each process.
      during: called with the processes once they are started.
      environments: variables for each, instead of the flags that number it.
    """
    port, reservation = reserved_port()
    flags = ("--num_processes=2", f"--coordinator=localhost:{port}")
    processes = []
    try:
        for i in range(2):
            process_arguments = (*arguments, *own[i], *(() if environments else (*flags, f"--process_id={i}")))
            processes.append(fork("train", *process_arguments, variables=environments and environments[i]))
        if during:
            during(processes)
        codes = [process.wait(240) for process in processes]
        outputs = [process.outputs() for process in processes]
    finally:
        for process in processes:
            process.kill()
        reservation.close()
    return [codes, *zip(*map(_without_gloo, outputs), strict=True)]


def reserved_port():
    """Return a port, and the socket that reserves it until it is closed; a gRPC server can listen there too."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as gRPC does
    reservation.bind(("localhost", 0))
    return reservation.getsockname()[1], reservation


def _without_gloo(outputs):
    """Remove the lines of XLA's transport between CPUs about its connections."""
    return ["".join(line for line in text.splitlines(True) if not line.startswith("[Gloo]")) for text in outputs]


def run_on_terminal(name, *arguments, columns=100):
    """Return the exit code and the output to a terminal of `columns` columns, without control sequences."""
    ours, theirs = pty.openpty()
    env = environment() | {"TERM": "xterm", "COLUMNS": str(columns), "LINES": "40"}
    process = subprocess.Popen(command(name, *arguments), cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    sent = b""
    try:
        while received := _receive(ours):
            sent += received
        code = process.wait(timeout=120)
    finally:
        process.kill()
        os.close(ours)
    return code, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode())


def _receive(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


def rows(workdir):
    """Return the whole lines of metrics.jsonl."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def reproducible_rows(workdir):
    """Return the rows without the fields that depend on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows(workdir)]
