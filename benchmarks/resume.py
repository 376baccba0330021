"""Kill a deterministic training, resume it, and compare it with one that ran through. Prints one JSON object, last.

python -m benchmarks.resume --config=configs/best.py:ran,gpu [--config.FIELD=VALUE]

Both train STEPS steps with `deterministic` set; one is killed (SIGKILL) as soon as its first checkpoint is on the disk,
and the same command resumes it. Every array of the state at the last step, including the optimizer's, and the logged
losses are compared. images_per_second is the median of the logged lines after the first, with deterministic kernels.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.machine import ROOT, described

STEPS, SAVE_EVERY, LOG_EVERY = 160, 40, 10
FIELDS = {
    "deterministic": True,
    "num_steps": STEPS,
    "checkpoint.every_steps": SAVE_EVERY,
    "log.every_steps": LOG_EVERY,
    "eval.every_epochs": 10**6,
}
POLL = 0.05  # seconds


def measure(arguments: list[str]) -> dict:
    """Return the comparison; `equal` is whether all arrays and losses are."""
    arguments = [*arguments, *(f"--config.{name}={value}" for name, value in FIELDS.items())]
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        whole, killed = pathlib.Path(folder, "whole"), pathlib.Path(folder, "killed")
        seconds = {"whole_s": train(arguments, whole, STEPS)}
        seconds["killed_s"] = train(arguments, killed, 1)
        step = max(int(path.name) for path in steps(killed))
        seconds["resumed_s"] = train(arguments, killed, STEPS)
        os.environ["JAX_PLATFORMS"] = "cpu"  # to read checkpoints
        arrays = [state(workdir / "checkpoints" / str(STEPS)) for workdir in (whole, killed)]
        differing = [name for name in arrays[0] | arrays[1] if not same(arrays[0].get(name), arrays[1].get(name))]
        logged = [rows(workdir) for workdir in (whole, killed)]
        run, config = (json.loads((whole / f"{name}.json").read_text()) for name in ("run", "config"))
        rates = [row["images_per_second"] for row in logged[0].values()]
    return {
        "what": "resume",
        **described(config, run),
        "steps": STEPS,
        "killed_after": step,
        "arrays": len(arrays[0]),
        "differing_arrays": differing,
        "differing_losses": [step for step in logged[0] if loss(logged[0], step) != loss(logged[1], step)],
        "equal": not differing and all(loss(logged[0], step) == loss(logged[1], step) for step in logged[0]),
        "images_per_second": statistics.median(rates[1:]),
        **seconds,
        "versions": run["versions"],
    }


def train(arguments: list[str], workdir: pathlib.Path, until: int) -> float:
    """Run launch.train, kill it when a checkpoint of step `until` or a later one is on the disk; return the seconds.

    Raises:
      SystemExit: it ended before, with its exit code.
    """
    command = [sys.executable, "-m", "launch.train", *arguments, f"--workdir={workdir}"]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr) as process:
        while process.poll() is None:
            if any(int(path.name) >= until for path in steps(workdir)):
                process.kill()
                return time.perf_counter() - start
            time.sleep(POLL)
    sys.exit(process.returncode or f"launch.train ended without a checkpoint of step {until}")


def steps(workdir: pathlib.Path) -> list[pathlib.Path]:
    """Return the folders of the complete checkpoints."""
    return [path for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()]


def state(step: pathlib.Path) -> dict:
    """Return every array of a checkpoint by name."""
    from agegender_jax.checkpoint import reading, tree

    return tree.named_leaves(tree.read(step / reading.STATE, tree.shapes(step / reading.STATE)))


def same(a, b) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def rows(workdir: pathlib.Path) -> dict[int, dict]:
    """Return the logged train lines by step."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if line["split"] == "train"}


def loss(logged: dict[int, dict], step: int) -> float | None:
    return logged.get(step, {}).get("loss")


if __name__ == "__main__":
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
    else:
        print(json.dumps(measure(sys.argv[1:])))
