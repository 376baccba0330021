"""Measure the cost of dividing a batch among several devices or two processes, and of agreement between processes.

python -m benchmarks.devices

The same global batch on 1, 2, 4 and 8 forced CPU devices of one process with both drivers, and in two processes with
one device each over loopback. Every setting is a new process in each round; the settings of a round run one after the
other. Ratios are of the fastest steps within a round, because other work on the machine can only slow a step down.
Writes benchmarks/results/devices.json.
"""

import argparse
import itertools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from agegender_jax.cli.exits import guard
from agegender_jax.run.host import ynnpack
from benchmarks import result_files
from benchmarks.machine import ROOT

NET, WIDTH, SIZE, BATCH = "resnet18", 0.125, 32, 64
BASE = "shard_map, 1 device"
SETTINGS = {  # driver, processes, devices in each
    f"{driver}, {devices} device{'s' * (devices > 1)}": (driver, 1, devices)
    for driver in ("shard_map", "pmap")
    for devices in (1, 2, 4, 8)
} | {f"{driver}, 2 processes": (driver, 2, 1) for driver in ("shard_map", "pmap")}


def measure(driver: str, steps: int) -> dict:
    """Return milliseconds of the fastest and the median step, each waited for, and of an agreement among processes."""
    import jax
    import numpy as np

    from agegender_jax import config as config_lib
    from agegender_jax import models, optim, parallel, training
    from agegender_jax.run import train
    from agegender_jax.run.host import processes
    from benchmarks import steps as steps_of

    processes.connect()
    config = config_lib.default()
    config.update({"batch_size": BATCH, "parallel": driver})
    config.model.update(name=NET, width=WIDTH)
    model = models.from_config(config.model, axis_name=parallel.AXIS)
    tx = optim.build(config.optimizer, steps)
    batch = steps_of.random_batch(BATCH // jax.process_count(), SIZE)
    made = train.make_driver(config, model, tx)
    state = made.replicate(jax.tree.map(np.array, training.init_state(model, tx, jax.random.key(0), SIZE)))

    def timed(action) -> float:
        start = time.perf_counter()
        action()
        return 1e3 * (time.perf_counter() - start)

    def step() -> None:
        nonlocal state
        state = made.step(state, made.split(batch))
        jax.block_until_ready(state.step)

    def agree() -> None:
        with processes.sync_errors() as agreed:
            agreed.value = 0

    for _ in range(3):
        step()
        agree()
    times, agreements = [timed(step) for _ in range(steps)], [timed(agree) for _ in range(steps)]
    return {
        "step_ms": {"min": min(times), "median": statistics.median(times)},
        "agreement_ms": {"min": min(agreements), "median": statistics.median(agreements)},
        "device": jax.devices()[0].device_kind,
        "versions": {"jax": jax.__version__, "python": platform.python_version()},
    }


def work(driver: str, steps: int, address: str, count: int, index: int) -> None:
    """Run one process of a setting and print its measurement."""
    import jax

    if count > 1:
        jax.distributed.initialize(address, count, index)
    print(json.dumps(measure(driver, steps)), flush=True)


def run(driver: str, count: int, devices: int, steps: int, compiled: str) -> dict:
    """Run a setting and return the measurement of process 0."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "JAX_COMPILATION_CACHE_DIR": compiled}
    command = (sys.executable, "-m", "benchmarks.devices", "--work", driver, f"--steps={steps}")
    started = [
        subprocess.Popen(
            (*command, f"--process={address},{count},{i}"), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for i in range(count)
    ]
    outputs = [process.communicate(timeout=600)[0] for process in started]
    return json.loads(outputs[0].splitlines()[-1])


def summary(rounds: list[dict[str, dict]]) -> dict[str, dict]:
    """Return the times of each setting per round, and the ratio of its fastest step to that of BASE with its median."""
    by_setting = {}
    for name in rounds[0]:
        ratios = [one[name]["step_ms"]["min"] / one[BASE]["step_ms"]["min"] for one in rounds]
        by_setting[name] = {
            what: {kind: [round(one[name][what][kind], 2) for one in rounds] for kind in ("min", "median")}
            for what in ("step_ms", "agreement_ms")
        }
        by_setting[name] |= {"ratio": round(statistics.median(ratios), 2), "ratios": [round(r, 2) for r in ratios]}
    return by_setting


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--process", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        address, count, index = args.process.split(",")
        work(args.work, args.steps, address, int(count), int(index))
        return
    rounds: list[dict[str, dict]] = [{} for _ in range(args.rounds)]
    with tempfile.TemporaryDirectory() as compiled:
        for one, (name, setting) in itertools.product(rounds, SETTINGS.items()):
            one[name] = run(*setting, args.steps, compiled)
            print(f"{name}: {one[name]['step_ms']['min']:.1f} ms", flush=True)
    base = rounds[0][BASE]
    record = {
        "command": f"python -m benchmarks.devices --steps={args.steps} --rounds={args.rounds}",
        "what": f"training step of {NET}, width {WIDTH:g}, {SIZE} pixels, global batch {BATCH}, float32, Adam",
        "device": f"{base['device']}, {os.cpu_count()} cores",
        "versions": base["versions"],
        "ratio_to": BASE,
        "settings": summary(rounds),
    }
    result_files.write(result_files.RESULTS / "devices.json", record)
    print(json.dumps(record["settings"], indent=1))


if __name__ == "__main__":
    guard(main)
