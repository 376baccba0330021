"""Compare training and evaluation on CPUs with XLA's own convolutions and with those of YNNPACK, its default.

python -m benchmarks.ynnpack [--repeats=2] [--steps=15]

The programs of this library choose the former (`agegender_jax/run/host/ynnpack.py`). Each measurement is a process of
`launch.benchmark`, in turns. Prints a table and writes results/ynnpack.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

from agegender_jax.cli.exits import guard
from agegender_jax.run.host import ynnpack
from agegender_jax.run.workdir import provenance
from benchmarks import machine, result_files

POINTS = (
    ("train", "resnet18", 64, 16),
    ("train", "resnet18", 96, 64),
    ("train", "resnet50", 64, 16),
    ("train", "ran56", 64, 16),
    ("train", "ran56", 64, 64),
    ("evaluate", "resnet18", 64, 64),
    ("evaluate", "resnet18", 128, 64),
    ("evaluate", "ran56", 64, 64),
)
SETTINGS = {"own": ynnpack.WITHOUT, "ynnpack": f"{ynnpack.FLAG}=+individual_convolution"}


def measure(what: str, net: str, size: int, batch_size: int, setting: str, steps: int) -> float:
    """Return the images per second of a point."""
    fields = {"model.name": net, "data.image_size": size, "batch_size": batch_size, "model.dtype": "float32"}
    command = [sys.executable, "-m", "launch.benchmark", f"--what={what}", f"--steps={steps}"]
    command += ["--config=configs/resnet.py", *(f"--config.{name}={value}" for name, value in fields.items())]
    env = os.environ | {"XLA_FLAGS": SETTINGS[setting], "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, cwd=machine.ROOT, env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])["images_per_second"]


def table(rows: list[dict]) -> str:
    """Return the rows as Markdown."""
    lines = ["| what | net | pixels | batch | YNNPACK, images/s | XLA, images/s | ratio |"]
    lines.append("| --- | --- | --: | --: | --: | --: | --: |")
    for row in rows:
        cells = [row["what"], row["net"], row["size"], row["batch_size"]]
        rates = [f"{row[name]:.1f}" for name in ("ynnpack", "own")]
        lines.append(f"| {' | '.join(map(str, [*cells, *rates]))} | {row['own'] / row['ynnpack']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    rows = []
    for what, net, size, batch_size in POINTS:
        runs: dict[str, list[float]] = {name: [] for name in SETTINGS}
        for _ in range(options.repeats):
            for name in SETTINGS:
                runs[name].append(measure(what, net, size, batch_size, name, options.steps))
        medians = {name: round(statistics.median(values), 1) for name, values in runs.items()}
        rows.append({"what": what, "net": net, "size": size, "batch_size": batch_size, **medians, "runs": runs})
        print(json.dumps(rows[-1]), flush=True)
    command = f"python -m benchmarks.ynnpack --repeats={options.repeats} --steps={options.steps}"
    made_by = provenance.made_by(sys.argv) | {"command": command, "machine": machine.machine()}
    result_files.write(result_files.RESULTS / "ynnpack.json", {"rows": rows, "made_by": made_by})
    print(table(rows))


if __name__ == "__main__":
    guard(main)
