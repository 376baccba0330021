"""Measure what a cold start compiles: initial weights, a training step and a batch of evaluation, without a cache.

python -m benchmarks.startup [--before=FOLDER] [--nets=ran56,resnet18] [--size=64] [--repeats=2]

FOLDER is a checkout of an older version, for example from `git worktree add ../before d798df9`; measurements alternate
with this version. Each measurement is a separate process. Prints a table and writes results/startup.json.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from agegender_jax.cli.exits import guard
from agegender_jax.run.workdir import provenance
from benchmarks import result_files
from benchmarks.machine import ROOT

PARTS = ("init", "train", "evaluate")
PROGRAM = """
import json, resource, sys, time
try:
    from agegender_jax.run.host import ynnpack
    ynnpack.avoid()  # as the commands of this version do
except ImportError:  # version 0.1.0
    pass
import jax, numpy as np
jax.config.update("jax_enable_compilation_cache", False)
from agegender_jax import config as config_lib, data, models, optim, parallel, training
from agegender_jax.structs import Batch
try:
    from agegender_jax.run import train as command
except ImportError:  # version 0.1.0
    from agegender_jax.run import trainer as command

part, name, size, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
config = config_lib.default()
config.model.name, config.data.image_size, config.batch_size = name, size, batch_size
options = dict(config.model.to_dict())
build = lambda axis: models.build(options["name"], num_age_classes=12, axis_name=axis,
                                  **{key: value for key, value in options.items() if key != "name"})
rng = np.random.default_rng(0)
images = rng.integers(0, 256, (batch_size, size, size, 3), dtype=np.uint8)
labels = np.zeros((batch_size, 2), np.int32), np.zeros(batch_size, np.int32)
fields = {"image": images, "age": labels[0], "gender": labels[1], "mask": np.ones(batch_size, np.float32)}
if "age_years" in Batch.__dataclass_fields__:
    fields["age_years"] = np.zeros(batch_size, np.int32)
batch, model, tx = Batch(**fields), build(parallel.AXIS), optim.build(config.optimizer, 1000)
jax.block_until_ready(jax.jit(lambda x: x + 1)(np.zeros(3)))  # the backend is up

def clock():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), usage.ru_utime + usage.ru_stime

start = clock()
init = lambda: training.init_state(model, tx, jax.random.key(0), size)
if part == "init":
    jax.block_until_ready(init().params)
elif part == "train":
    command.make_driver(config, model, tx).step.lower(jax.eval_shape(init), batch).compile()
else:
    net = build(None)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), np.zeros((1, size, size, 3), np.float32), train=False))
    jax.jit(lambda v, x: net.apply(v, data.normalize(x), train=False)).lower(shapes, images).compile()
end = clock()
print(json.dumps({"wall_s": round(end[0] - start[0], 2), "cpu_s": round(end[1] - start[1], 2)}))
"""


def measure(root: pathlib.Path, part: str, net: str, size: int, batch_size: int) -> dict[str, float]:
    """Return wall and CPU seconds of tracing, lowering and compiling one part by the package in `root`."""
    arguments = [sys.executable, "-c", PROGRAM, part, net, str(size), str(batch_size)]
    done = subprocess.run(arguments, cwd=root, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def table(rows: list[dict]) -> str:
    """Return the rows as Markdown."""
    lines = ["| net | part | before, s | now, s | ratio |", "|---|---|---|---|---|"]
    for row in rows:
        before, now = row.get("before_s"), row["now_s"]
        cells = (row["net"], row["part"], "" if before is None else f"{before:.1f}", f"{now:.1f}")
        lines.append(f"| {' | '.join(cells)} | {'' if before is None else f'{now / before:.2f}'} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=pathlib.Path)
    parser.add_argument("--nets", default="ran56,resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    roots = {"now": ROOT} | ({"before": options.before} if options.before else {})
    rows = []
    for net in options.nets.split(","):
        for part in PARTS:
            runs_of = {name: [] for name in roots}
            for _ in range(options.repeats):
                for name, root in roots.items():
                    runs_of[name].append(measure(root, part, net, options.size, options.batch_size))
            row = {"net": net, "part": part, "size": options.size, "batch_size": options.batch_size}
            for name, runs in runs_of.items():
                row[f"{name}_s"] = round(statistics.median(run["wall_s"] for run in runs), 3)
                row[f"{name}_cpu_s"] = round(statistics.median(run["cpu_s"] for run in runs), 3)
            rows.append(row)
            print(json.dumps(row), flush=True)
    command = f"python -m benchmarks.startup --before=FOLDER --nets={options.nets} --repeats={options.repeats}"
    made_by = provenance.made_by(sys.argv) | {"command": command}
    result_files.write(result_files.RESULTS / "startup.json", {"rows": rows, "made_by": made_by})
    print(table(rows))


if __name__ == "__main__":
    guard(main)
