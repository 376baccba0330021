"""Starts the programs as a user does, on few small faces."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
SMALL = (
    "--config=configs/resnet.py",
    "--config.model.width=0.125",
    "--config.data.image_size=32",
    "--config.num_steps=60",
    "--config.log.every_steps=5",
    "--config.checkpoint.every_steps=10",
)
COMPILED = tempfile.TemporaryDirectory()
TIMING = ("images_per_second", "data_wait")


def command(name, *arguments):
    return [sys.executable, "-m", f"launch.{name}", *map(str, arguments)]


def environment(devices=1):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": COMPILED.name}


def run(name, *arguments, devices=1, cwd=ROOT):
    """The finished process, its output as text."""
    env = environment(devices) | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command(name, *arguments), cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def run_until(step, how, workdir, *arguments):
    """Trains, sends the signal `how` once a line of `step` or later is logged, and returns the exit code."""
    process = subprocess.Popen(
        command("train", *arguments, f"--workdir={workdir}"), cwd=ROOT, env=environment(), stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and not any(row["step"] >= step for row in rows(workdir)):
            time.sleep(0.02)
        process.send_signal(getattr(signal, how))
        return process.wait(timeout=120)
    finally:
        process.kill()


def rows(workdir):
    """The whole lines of metrics.jsonl."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def lasting(workdir):
    """The lines without what depends on the clock."""
    return [{key: value for key, value in row.items() if key not in TIMING} for row in rows(workdir)]
