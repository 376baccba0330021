"""Trains two nets in float32 and in bfloat16 over three seeds, and compares the loss curves.

python -m benchmarks.precision

200 steps of configs/quickstart.py (drawn faces, 48 pixels, width 0.25, batch 16) each, the loss averaged over ten
steps a line. The same seed means the same weights at the start, batches and augmentation, so bfloat16 minus float32 of
one seed is what precision does; the differences between float32 seeds are the noise that it is held against. A run
that is done is passed over, one that was stopped goes on. Writes benchmarks/results/precision.json.
"""

import argparse
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import numpy as np

from benchmarks import result_files

ROOT = pathlib.Path(__file__).parents[1]
NETS = {"ran56": "ran", "resnet18": "resnet"}  # net: variant of configs/quickstart.py
DTYPES = ("float32", "bfloat16")
SEEDS = (0, 1, 2)
COMMON = ("--config.num_steps=200", "--config.log.every_steps=10")
SMOOTH = 5  # lines in a running mean: 50 steps
SCORES = ("loss", "age_accuracy", "gender_accuracy", "aabd")


def train(net: str, dtype: str, seed: int, workdir: pathlib.Path) -> dict:
    """The curve and the last val scores of a run, once it is trained."""
    place = workdir / f"{net}-{dtype}-{seed}"
    given = (
        f"--config=configs/quickstart.py:{NETS[net]}",
        *COMMON,
        f"--config.model.dtype={dtype}",
        f"--config.seed={seed}",
        f"--workdir={place}",
    )
    subprocess.run([sys.executable, "-m", "launch.train", *given], cwd=ROOT, check=True)
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text().splitlines()]
    train_rows = [row for row in rows if row["split"] == "train"]
    val = [row for row in rows if row["split"] == "val"][-1]
    devices = json.loads((place / "run.json").read_text())["devices"]
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
    """Differences of smoothed loss curves and of val scores: by precision (same seed) and between float32 seeds."""
    curves = {dtype: np.stack([smooth(run["loss"]) for run in found]) for dtype, found in runs.items()}
    by_precision = curves["bfloat16"] - curves["float32"]  # [seeds, lines]
    pairs = itertools.combinations(range(len(SEEDS)), 2)
    by_seed = np.stack([curves["float32"][i] - curves["float32"][j] for i, j in pairs])
    mean = curves["bfloat16"].mean(0)
    inside = (curves["float32"].min(0) <= mean) & (mean <= curves["float32"].max(0))
    val = {dtype: {key: [run["val"][key] for run in found] for key in SCORES} for dtype, found in runs.items()}
    return {
        "bfloat16 minus float32, same seed": [[round(x, 5) for x in row] for row in by_precision.tolist()],
        "mean difference": round(float(by_precision.mean()), 5),
        "rms difference": round(float(np.sqrt((by_precision**2).mean())), 5),
        "rms difference of float32 seeds": round(float(np.sqrt((by_seed**2).mean())), 5),
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
    given = parser.parse_args()
    found = {}
    for net in NETS:
        runs = {dtype: [train(net, dtype, seed, given.workdir) for seed in SEEDS] for dtype in DTYPES}
        found[net] = {"comparison": compare(runs), "runs": runs}
        print(net, json.dumps(found[net]["comparison"], indent=1))
    told = {
        "command": "python -m benchmarks.precision",
        "arguments": COMMON,
        "smoothing": f"running mean of {SMOOTH} lines, {10 * SMOOTH} steps",
        "versions": {"python": sys.version.partition(" ")[0], "jax": jax.__version__},
        "nets": found,
    }
    result_files.write(result_files.RESULTS / "precision.json", told)


if __name__ == "__main__":
    main()
