"""Train a small version of every net for three epochs on real faces and draw the curves of docs/models.md.

python -m benchmarks.zoo --source=crop_part1.tar

Finished nets are skipped, interrupted ones resumed. Writes benchmarks/results/zoo.json and docs/zoo.png.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys

import jax
from matplotlib.figure import Figure

from agegender_jax import models
from agegender_jax.cli.exits import guard
from benchmarks import result_files
from benchmarks.machine import ROOT

COMMON = ("--config.model.width=0.25", "--config.num_epochs=3", "--config.batch_size=64", "--config.data.image_size=48")
OPTIONS = {"resnet18 small stem": ("resnet18", "--config.model.stem=small")}  # beside every net as it is
COLUMNS = {
    "Attention-56 and -92": ("ran56", "ran92"),
    "CIFAR nets": ("ran56_cifar", "ran92_cifar", "ran128_cifar", "ran164_cifar", "ran236_cifar"),
    "others": ("resnet18", "resnet34", "resnet50", "resnet18 small stem", "levi_hassner"),
}


def runs() -> dict[str, tuple[str, ...]]:
    """Return the arguments of launch.train by name."""
    nets = {name: (name,) for name in models.names()} | OPTIONS
    larger = {"levi_hassner": ("--config.data.image_size=64",)}
    return {
        name: (*COMMON, f"--config.model.name={net}", *options, *larger.get(net, ()))
        for name, (net, *options) in nets.items()
    }


def train(name: str, arguments: tuple[str, ...], source: str, workdir: pathlib.Path) -> dict:
    """Train a run unless it is finished, and return its scores and val curve."""
    run = workdir / name.replace(" ", "-")
    flags = ("--config=configs/ran.py", *arguments, f"--config.data.source={source}", f"--workdir={run}")
    subprocess.run([sys.executable, "-m", "launch.train", *flags], cwd=ROOT, check=True)
    results = json.loads((run / "results.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    scores = ("age_accuracy", "gender_accuracy", "aabd")
    return {
        "arguments": arguments,
        "n": results["n"],
        "fingerprint": results["source"]["fingerprint"],
        **{key: results["models"][0][key] for key in (*scores, "ci95", "parameters", "collapsed")},
        "val": [{key: row[key] for key in ("epoch", *scores, "loss")} for row in rows if row["split"] == "val"],
    }


def draw(by_name: dict[str, dict]) -> Figure:
    """Return validation curves: age accuracy above, gender accuracy below."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    axes = figure.subplots(2, len(COLUMNS), sharex=True, sharey="row")
    for column, (title, names) in zip(axes.T, COLUMNS.items(), strict=True):
        for axis, key in zip(column, ("age_accuracy", "gender_accuracy"), strict=True):
            for name, marker in zip([name for name in names if name in by_name], "osD^v", strict=False):
                points = [(row["epoch"], row[key]) for row in by_name[name]["val"]]
                axis.plot(*zip(*points, strict=True), marker=marker, label=name)
            axis.set(ylabel=f"{key.replace('_', ' ')}, val", xticks=(1, 2, 3))
            axis.grid(alpha=0.3)
        column[0].set_title(title)
        column[0].legend(fontsize=8, loc="lower right")
        column[1].set_xlabel("epoch")
    return figure


def table(by_name: dict[str, dict]) -> str:
    """Return Markdown of the scores on the test split."""
    lines = ["| net | age accuracy | gender accuracy | AABD |", "|---|---|---|---|"]
    for name, run in by_name.items():
        cells = [f"{run[key]:.3f} [{low:.3f}, {high:.3f}]" for key, (low, high) in run["ci95"].items()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", required=True, help="crop_part1 as a folder or archive")
    parser.add_argument("--workdir", type=pathlib.Path, default=ROOT / "runs" / "zoo")
    parser.add_argument("--only", nargs="*", help="names of runs; the results of others are left as they are")
    args = parser.parse_args()
    path = result_files.RESULTS / "zoo.json"
    earlier = json.loads(path.read_text())["runs"] if path.exists() else {}
    by_name = {}
    for name, arguments in runs().items():
        if args.only is None or name in args.only:
            by_name[name] = train(name, arguments, args.source, args.workdir)
        elif name in earlier:
            by_name[name] = earlier[name]
    machine = f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, jax {jax.__version__}"
    command = "python -m benchmarks.zoo --source=crop_part1.tar"
    record = {"command": command, "machine": machine, "seed": 0, "runs": by_name}
    result_files.write(path, record)
    draw(by_name).savefig(ROOT / "docs" / "zoo.png", dpi=90, metadata={"Software": None})
    print(table(by_name))


if __name__ == "__main__":
    guard(main)
