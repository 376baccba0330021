"""Run launch.train for two epochs and extrapolate to a hundred. Prints one JSON object, last.

python -m benchmarks.job --config=configs/ran.py [--config.FIELD=VALUE]

The arguments are those of launch.train. Epochs are timed by the lines that it prints: seconds until the end of the
first validation (start, data, compilation and first epoch), of the second epoch with its validation, and after it (test
and report). extrapolated_s = first + 99 x second + after is computed, not measured. JAX's compilation cache is off
unless JAX_COMPILATION_CACHE_DIR is set, so that a job whose compilation took all its time succeeds when it is started
again; `compile_cached` is whether the training step came from it, which makes first_s shorter.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from agegender_jax.errors import ConfigError
from benchmarks.machine import ROOT, described


def measure(arguments: list[str]) -> dict:
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        workdir = pathlib.Path(folder) / "run"
        command = ["-m", "launch.train", *arguments, "--config.num_epochs=2", f"--workdir={workdir}"]
        cache, environment = os.environ.get("JAX_COMPILATION_CACHE_DIR"), dict(os.environ)
        if not cache:
            environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        compiled = training_steps(cache)
        start, validated = time.perf_counter(), []
        with subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                if re.match(r"epoch \S+  val ", line):
                    validated.append(time.perf_counter() - start)
        total = time.perf_counter() - start
        if process.returncode:
            sys.exit(process.returncode)
        run = json.loads((workdir / "run.json").read_text())
        config = json.loads((workdir / "config.json").read_text())
        rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    if len(validated) != 2:
        raise ConfigError(
            f"the training was validated {len(validated)} times, not twice", "--config", "set eval.every_epochs=1"
        )
    first, second = validated
    train = [row for row in rows if row["split"] == "train"]
    return {
        "what": "job",
        **described(config, run),
        "source": run["source"],
        "images_an_epoch": train[-1]["step"] // 2 * config["batch_size"],
        "images_per_second": train[-1]["images_per_second"],
        "data_wait": train[-1]["data_wait"],
        "first_s": first,
        "second_s": second - first,
        "after_s": total - second,
        "compile_cached": bool(compiled) and training_steps(cache) == compiled,
        "extrapolated_s": first + 99 * (second - first) + total - second,
        "extrapolated_to": "100 epochs",
        "versions": run["versions"],
    }


def training_steps(cache: str | None) -> set[str]:
    """Return the names of the compiled training steps in JAX's cache."""
    return {path.name for path in pathlib.Path(cache).glob("*train_step-*-cache")} if cache else set()


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    else:
        print(json.dumps(measure(sys.argv[1:])))
