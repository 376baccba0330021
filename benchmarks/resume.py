"""Kill a deterministic training, resume it, and compare it with one that ran through. Prints one JSON object, last.

python -m benchmarks.resume --config=configs/best.py:resnet,gpu [--config.FIELD=VALUE]

Both train STEPS steps with `deterministic` set; one is killed (SIGKILL) as soon as its first checkpoint is on the disk,
and the same command resumes it. Every array of the state at the last step, including the optimizer's, and the logged
losses are compared. A training without `deterministic` comes first: `of_plain` is images_per_second with deterministic
kernels divided by that without, both medians of the logged lines after the first; `plain_data_wait` is the share of the
time that the latter waited for data. If a deterministic training fails or takes too long, `note` has its error, and
`equal` is null.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from agegender_jax.cli.exits import guard
from benchmarks.machine import ROOT, described, seconds_left, without_folders

STEPS, SAVE_EVERY, LOG_EVERY = 160, 40, 10
FIELDS = {
    "num_steps": STEPS,
    "checkpoint.every_steps": SAVE_EVERY,
    "log.every_steps": LOG_EVERY,
    "eval.every_epochs": 10**6,
}
POLL = 0.05  # seconds
LEAVING = 8.0  # seconds to compare the states and end


def measure(arguments: list[str], seconds: float) -> dict:
    """Return the comparison; `equal` is whether all arrays and losses are.

    Raises:
      RuntimeError: even the training without `deterministic` failed or took longer than `seconds`.
    """
    until = time.monotonic() + seconds
    arguments = [*arguments, *(f"--config.{name}={value}" for name, value in FIELDS.items())]
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        plain, whole, killed = (pathlib.Path(folder, name) for name in ("plain", "whole", "killed"))
        result = {"what": "resume", "plain_s": train(arguments, plain, STEPS, until)}
        run, config = (json.loads((plain / f"{name}.json").read_text()) for name in ("run", "config"))
        result |= {**described(config, run), "steps": STEPS, "equal": None, "versions": run["versions"]}
        result |= {"plain_images_per_second": rate(plain), "plain_data_wait": of_lines(plain, "data_wait")}
        try:
            arguments = [*arguments, "--config.deterministic=True"]
            result["whole_s"] = train(arguments, whole, STEPS, until)
            result["images_per_second"] = rate(whole)
            result["of_plain"] = result["images_per_second"] / result["plain_images_per_second"]
            result["killed_s"] = train(arguments, killed, 1, until)
            result["killed_after"] = last_step(killed)
            if result["killed_after"] == STEPS:
                raise RuntimeError("the training that was to be killed had ended before")
            result["resumed_s"] = train(arguments, killed, STEPS, until)
            result |= compared(whole, killed)
        except RuntimeError as error:
            result["note"] = without_folders(str(error))
    return result


def compared(whole: pathlib.Path, killed: pathlib.Path) -> dict:
    """Compare the states of two runs at the last step, and their logged losses."""
    os.environ["JAX_PLATFORMS"] = "cpu"  # to read checkpoints
    arrays = [state(workdir / "checkpoints" / str(STEPS)) for workdir in (whole, killed)]
    differing = [name for name in arrays[0] | arrays[1] if not same(arrays[0].get(name), arrays[1].get(name))]
    losses = [{step: line.get("loss") for step, line in rows(workdir).items()} for workdir in (whole, killed)]
    differing_losses = [step for step in losses[0] if losses[0][step] != losses[1].get(step)]
    return {
        "arrays": len(arrays[0]),
        "differing_arrays": differing,
        "differing_losses": differing_losses,
        "equal": not differing and not differing_losses,
    }


def train(arguments: list[str], workdir: pathlib.Path, step: int, until: float) -> float:
    """Run launch.train, kill it when a checkpoint of `step` or a later one is on the disk; return the seconds.

    Args:
      until: time.monotonic at which it is ended.

    Raises:
      RuntimeError: it ended before, or `until` was reached.
    """
    command = [sys.executable, "-m", "launch.train", *arguments, f"--workdir={workdir}"]
    start, log = time.monotonic(), workdir.with_suffix(".log")
    with (
        open(log, "a") as output,
        subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            while process.poll() is None:
                if last_step(workdir) >= step:
                    return time.monotonic() - start
                if time.monotonic() > until:
                    logged = max(rows(workdir), default=0)
                    raise RuntimeError(f"{workdir.name}: no checkpoint {step}, logged {logged} steps, no time left")
                time.sleep(POLL)
        finally:
            process.kill()
    raise RuntimeError(f"{workdir.name}, exit code {process.returncode}: {log.read_text()[-600:].strip()}")


def last_step(workdir: pathlib.Path) -> int:
    """Return the step of the newest complete checkpoint, 0 without one."""
    return max((int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdecimal()), default=0)


def state(step: pathlib.Path) -> dict:
    """Return every array of a checkpoint by name."""
    from agegender_jax.checkpoint import reading, tree

    return tree.named_leaves(tree.read(step / reading.STATE, tree.shapes(step / reading.STATE)))


def same(a, b) -> bool:
    return a is not None and b is not None and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def rows(workdir: pathlib.Path) -> dict[int, dict]:
    """Return the logged train lines by step; none if nothing is logged yet."""
    log = workdir / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().split("\n")[:-1]] if log.exists() else []
    return {line["step"]: line for line in lines if line["split"] == "train"}


def rate(workdir: pathlib.Path) -> float:
    return of_lines(workdir, "images_per_second")


def of_lines(workdir: pathlib.Path, key: str) -> float:
    """Return the median of a key over the logged lines after the first, which compiles.

    Raises:
      RuntimeError: fewer than two lines are logged.
    """
    values = [line[key] for line in rows(workdir).values()][1:]
    if not values:
        raise RuntimeError(f"{workdir.name} logged fewer than two lines")
    return statistics.median(values)


def main() -> int:
    if {"-h", "--help"} & set(sys.argv):
        print(__doc__)
        return 0
    try:
        print(json.dumps(measure(sys.argv[1:], min(170.0, seconds_left() - LEAVING))))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(guard(main))
