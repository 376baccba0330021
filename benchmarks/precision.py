"""Train two nets in float32 and in bfloat16 with three seeds and compare the loss curves.

python -m benchmarks.precision

200 steps of configs/quickstart.py (synthetic faces, 48 pixels, width 0.25, batch 16) each, with the loss averaged over
ten steps per line. The same seed means the same initial weights, batches and augmentation, so bfloat16 minus float32 of
one seed is the effect of precision; the differences between float32 seeds are the noise to compare it with. Finished
runs are skipped, interrupted ones resumed. Writes benchmarks/results/precision.json.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np

from agegender_jax.cli.exits import guard
from benchmarks import result_files
from benchmarks.machine import ROOT

NETS = {"ran56": "ran", "resnet18": "resnet"}  # net: variant of configs/quickstart.py
DTYPES = ("float32", "bfloat16")
SEEDS = (0, 1, 2)
COMMON = ("--config.num_steps=200", "--config.log.every_steps=10")
SMOOTH = 5  # lines in a running mean: 50 steps
SCORES = ("loss", "age_accuracy", "gender_accuracy", "aabd")


def train(net: str, dtype: str, seed: int, workdir: pathlib.Path) -> dict:
    """Train a run and return its curve and its last val scores."""
    workdir = workdir / f"{net}-{dtype}-{seed}"
    arguments = (
        f"--config=configs/quickstart.py:{NETS[net]}",
        *COMMON,
        f"--config.model.dtype={dtype}",
        f"--config.seed={seed}",
        f"--workdir={workdir}",
    )
    subprocess.run([sys.executable, "-m", "launch.train", *arguments], cwd=ROOT, check=True)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train_rows = [row for row in rows if row["split"] == "train"]
    val = [row for row in rows if row["split"] == "val"][-1]
    devices = json.loads((workdir / "run.json").read_text())["devices"]
    return {
        "seed": seed,
        "device": devices["kind"],
        "step": [row["step"] for row in train_rows],
        "loss": [round(row["loss"], 5) for row in train_rows],
        "val": {key: round(val[key], 5) for key in SCORES},
    }


def smooth(curve: list[float]) -> np.ndarray:
    return np.convolve(curve, np.ones(SMOOTH) / SMOOTH, "valid")


def compare(runs: dict[str, list[dict]]) -> dict:
    """Return differences of smoothed losses and of val scores: by precision (same seed) and between float32 seeds."""
    curves = {dtype: np.stack([smooth(run["loss"]) for run in by_seed]) for dtype, by_seed in runs.items()}
    by_precision = curves["bfloat16"] - curves["float32"]  # [seeds, lines]
    pairs = itertools.combinations(range(len(SEEDS)), 2)
    between_seeds = np.stack([curves["float32"][i] - curves["float32"][j] for i, j in pairs])
    mean = curves["bfloat16"].mean(0)
    inside = (curves["float32"].min(0) <= mean) & (mean <= curves["float32"].max(0))
    val = {dtype: {key: [run["val"][key] for run in by_seed] for key in SCORES} for dtype, by_seed in runs.items()}
    return {
        "bfloat16 minus float32, same seed": [[round(x, 5) for x in row] for row in by_precision.tolist()],
        "mean difference": round(float(by_precision.mean()), 5),
        "rms difference": round(float(np.sqrt((by_precision**2).mean())), 5),
        "rms difference of float32 seeds": round(float(np.sqrt((between_seeds**2).mean())), 5),
        "share of lines with the mean bfloat16 curve inside the float32 seeds": round(float(inside.mean()), 3),
        "val mean": {
            dtype: {key: round(float(np.mean(values)), 5) for key, values in scores.items()}
            for dtype, scores in val.items()
        },
        "val range of float32 seeds": {key: [min(v), max(v)] for key, v in val["float32"].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "precision")
    args = parser.parse_args()
    nets = {}
    for net in NETS:
        runs = {dtype: [train(net, dtype, seed, args.workdir) for seed in SEEDS] for dtype in DTYPES}
        nets[net] = {"comparison": compare(runs), "runs": runs}
        print(net, json.dumps(nets[net]["comparison"], indent=1))
    record = {
        "command": "python -m benchmarks.precision",
        "arguments": COMMON,
        "smoothing": f"running mean of {SMOOTH} lines, {10 * SMOOTH} steps",
        "versions": {"python": sys.version.partition(" ")[0], "jax": jax.__version__},
        "nets": nets,
    }
    result_files.write(result_files.RESULTS / "precision.json", record)


if __name__ == "__main__":
    guard(main)
