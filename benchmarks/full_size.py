"""Train the nets of configs/best.py on one source at the same time, within a time limit. Prints one JSON object, last.

python -m benchmarks.full_size --source=crop_part1.tar.gz --folder=runs/gpu/crop_part1 [--config.FIELD=VALUE]

The compilation of one net overlaps with the steps of the other. When the time is up, both stop as after a signal and
the exit code is 75; the same command resumes them. After both tests `small_weights.store` writes the nets to
FOLDER/back. A packed source (`pack_faces`) is prepared first, with the split of the original.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks.machine import AGAIN, ROOT, described, seconds_left

SCORES = ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "aabd")
LEAVING = 20.0  # seconds to save both states after a signal, or to store both nets


class Unfinished(Exception):
    """A training was stopped by the time limit."""


def measure(
    source: str, train_on: str, nets: list[str], folder: pathlib.Path, seconds: float, fields: list[str]
) -> dict:
    """Train, test and store the nets, each in its own process.

    Args:
      source, train_on: as data.source and data.train_on.
      fields: `--config.FIELD=VALUE` for both nets.

    Raises:
      Unfinished: a training was stopped by the time limit.
      RuntimeError: all failed. Where one did, the result has a `note`, and the other net comes back.
    """
    start = time.monotonic()
    environment = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # both nets share the GPU
    os.environ["JAX_PLATFORMS"] = "cpu"  # this process must hold no memory of it
    from agegender_jax.data import split_exceptions
    from benchmarks import pack_faces, small_weights

    pack_faces.prepare(split_exceptions.join(source, train_on))
    prepared = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    runs = {net: folder / net for net in nets}

    def train_one(net: str) -> None:
        command = [f"--config=configs/best.py:{net},gpu", f"--config.data.source={source}", *fields]
        command += [f"--config.data.train_on={train_on}"] if train_on else []
        train([*command, f"--workdir={runs[net]}"], folder / f"{net}.log", start + seconds - LEAVING, environment)

    with concurrent.futures.ThreadPoolExecutor(len(nets)) as pool:
        errors = dict(zip(nets, pool.map(lambda net: error_of(train_one, net), nets), strict=True))
    trained = time.monotonic()
    failed = {net: str(error) for net, error in errors.items() if error}
    if stopped := [error for error in errors.values() if isinstance(error, Unfinished)]:
        raise stopped[0]
    if len(failed) == len(nets):
        raise RuntimeError("; ".join(failed.values()))
    runs = {net: workdir for net, workdir in runs.items() if net not in failed}
    back = small_weights.store(runs, folder.name, folder / "back")
    results = {net: result(workdir) for net, workdir in runs.items()}
    run = json.loads((next(iter(runs.values())) / "run.json").read_text())
    return {
        "what": "full_size",
        "device": run["devices"]["platform"],
        "device_kind": run["devices"]["kind"],
        "source": run["source"],
        "prepare_s": prepared - start,
        "train_s": trained - prepared,
        "nets": results,
        "files": [os.path.relpath(path, ROOT) for path in back],
        "mib": sum(path.stat().st_size for path in back) / 2**20,
        "versions": run["versions"],
    } | ({"note": "; ".join(failed.values())} if failed else {})


def error_of(action: Callable[[str], None], net: str) -> Exception | None:
    """Return the error of a training, so that the other net is not lost; None if it succeeds."""
    try:
        action(net)
    except (Unfinished, RuntimeError, OSError) as error:
        return error
    return None


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
    rates = [row["images_per_second"] for row in rows if row["split"] == "train"]
    tested = results["models"][-1]
    return {
        **described(config, run),
        "width": config["model"]["width"],
        "seed": config["seed"],
        "epochs": config["num_epochs"],
        "steps": max(row["step"] for row in rows),
        "best_step": tested["step"],
        "images_per_second": statistics.median(rates[len(rates) // 2 :]),  # without the start of the other net
        "starts": len(run["starts"]),
        "n": results["n"],
        **{name: tested[name] for name in SCORES},
        "ci95": {name: tested["ci95"][name] for name in SCORES},
        "command": run["command"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True, help="one source, as data.source")
    parser.add_argument("--train_on", default="", help="further sources, as data.train_on")
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="of the runs; its name is that of the files")
    parser.add_argument("--nets", default="ran,resnet", help="variants of configs/best.py")
    parser.add_argument("--seconds", type=float, default=175.0, help="time limit")
    args, fields = parser.parse_known_args()
    seconds = min(args.seconds, seconds_left())
    try:
        measured = measure(args.source, args.train_on, args.nets.split(","), args.folder.resolve(), seconds, fields)
    except Unfinished as stopped:
        print(stopped, file=sys.stderr)
        return AGAIN
    print(json.dumps(measured), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
