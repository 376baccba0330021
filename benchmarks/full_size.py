"""Train a net of configs/best.py on one source within a time limit. Prints one JSON object, last.

python -m benchmarks.full_size --net=resnet --source=crop_part1.zip --folder=runs/gpu/crop_part1 [--config.FIELD=VALUE]

When the time is up, the training stops as after a signal and the exit code is 75; the same command resumes it. It gives
up after the second start without a new step. After the test, `small_weights.store` writes the net to FOLDER/back. A
packed source (`pack_faces`) is prepared first, with the split of the original.
"""

import argparse
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import time

from agegender_jax.cli.exits import guard
from benchmarks.machine import AGAIN, ROOT, described, seconds_left
from benchmarks.resume import last_step

SCORES = ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "aabd")
LEAVING = 20.0  # seconds to save the state after a signal, or to store the net
FAIR = 60.0  # seconds in which a start should reach its first step
STARTS = 2  # without a new step


class Unfinished(Exception):
    """The training was stopped by the time limit."""


def measure(source: str, train_on: str, net: str, folder: pathlib.Path, seconds: float, fields: list[str]) -> dict:
    """Train, test and store a net in a process of its own.

    Args:
      source, train_on: as data.source and data.train_on.
      net: variant of configs/best.py.
      fields: `--config.FIELD=VALUE`.

    Raises:
      Unfinished: the training was stopped by the time limit.
      RuntimeError: it failed, or was stopped at its second start without a new step.
    """
    start, environment = time.monotonic(), dict(os.environ)
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process must hold no memory of the GPU
    from agegender_jax.data import split_exceptions
    from benchmarks import pack_faces, small_weights

    pack_faces.prepare(split_exceptions.join(source, train_on))
    prepared = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    workdir = folder / net
    command = [f"--config=configs/best.py:{net},gpu", f"--config.data.source={source}", *fields]
    command += [f"--config.data.train_on={train_on}"] if train_on else []
    command.append(f"--workdir={workdir}")
    before = last_step(workdir)
    try:
        train(command, folder / f"{net}.log", start + seconds - LEAVING, environment)
    except Unfinished:
        check_progress(workdir, before, time.monotonic() - prepared)
        raise
    trained = time.monotonic()
    back = small_weights.store({net: workdir}, f"{folder.name}-{net}", folder / "back")
    return {
        "what": "full_size",
        **result(workdir),
        "prepare_s": prepared - start,
        "train_s": trained - prepared,
        "files": [os.path.relpath(path, ROOT) for path in back],
        "mib": sum(path.stat().st_size for path in back) / 2**20,
    }


def check_progress(workdir: pathlib.Path, before: int, seconds: float) -> None:
    """Raise RuntimeError at the second start that is not short and ended at the step `before`, where it began."""
    idle = workdir.with_suffix(".idle")  # seconds of such starts
    if last_step(workdir) > before:
        idle.unlink(missing_ok=True)
    elif seconds >= FAIR:
        with open(idle, "a") as file:
            file.write(f"{seconds:.0f}\n")
        starts = idle.read_text().split()
        if len(starts) >= STARTS:
            raise RuntimeError(
                f"{workdir.name}: no step after {before} in starts of {' and '.join(starts)} s; given up"
            )


def train(arguments: list[str], log: pathlib.Path, until: float, environment: dict[str, str]) -> None:
    """Run launch.train until it ends, or stop it at `until`, of time.monotonic."""
    command = [sys.executable, "-m", "launch.train", *arguments]
    with (
        open(log, "a") as output,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            code = process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise Unfinished(f"{log.stem} was stopped") from None
    if code:
        raise RuntimeError(f"{log.stem}, exit code {code}: {log.read_text()[-400:].strip()}")


def result(workdir: pathlib.Path) -> dict:
    """Return what a finished run reports about itself."""
    config, run, results = (json.loads((workdir / f"{name}.json").read_text()) for name in ("config", "run", "results"))
    rows = [json.loads(row) for row in (workdir / "metrics.jsonl").read_text().splitlines()]
    tested = results["models"][-1]
    arguments = [argument for argument in run["command"][1:] if not argument.startswith("--workdir")]
    return {
        **described(config, run),
        "source": run["source"],
        "width": config["model"]["width"],
        "seed": config["seed"],
        "epochs": config["num_epochs"],
        "steps": max(row["step"] for row in rows),
        "best_step": tested["step"],
        "images_per_second": statistics.median(row["images_per_second"] for row in rows if row["split"] == "train"),
        "starts": len(run["starts"]),
        "n": results["n"],
        **{name: tested[name] for name in SCORES},
        "ci95": {name: tested["ci95"][name] for name in SCORES},
        "command": shlex.join(["python", "-m", "launch.train", *arguments]),
        "versions": run["versions"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", required=True, help="variant of configs/best.py: ran or resnet")
    parser.add_argument("--source", required=True, help="one source, as data.source")
    parser.add_argument("--train_on", default="", help="further sources, as data.train_on")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the runs; its name is that of the files")
    parser.add_argument("--seconds", type=float, default=175.0, help="time limit")
    args, fields = parser.parse_known_args()
    seconds = min(args.seconds, seconds_left())
    try:
        measured = measure(args.source, args.train_on, args.net, args.folder.resolve(), seconds, fields)
    except (Unfinished, RuntimeError) as error:
        print(error, file=sys.stderr)
        return AGAIN if isinstance(error, Unfinished) else 1
    print(json.dumps(measured), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
