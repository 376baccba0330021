"""What the maps of trained nets are worth: `launch.evaluate --explain`, its numbers kept and shown as Markdown.

python -m benchmarks.explanations runs/quickstart/ran runs/quickstart/resnet     # results/explanations_synthetic.json
python -m benchmarks.explanations runs/ran runs/resnet                           # results/explanations_crop_part1.json
python -m benchmarks.explanations --table                                        # of what results/ holds
"""

import argparse
import json
import pathlib
import shlex
import tempfile

from agegender_jax.report import overlay
from agegender_jax.run import compiled, evaluator, pages, provenance
from agegender_jax.run.workdir import write_json
from benchmarks.machine import RESULTS, machine

IMAGES = 64
CONTROLS = ("random", "blob")
HEADINGS = ["net", "decision", "map", *(f"{kind} minus {c}" for kind in ("deletion", "insertion") for c in CONTROLS)]


def measure(workdirs: list[str]) -> pathlib.Path:
    """Explains IMAGES images of the test split by every net, and keeps the numbers; where."""
    with tempfile.TemporaryDirectory() as out:
        found = evaluator.evaluate(
            workdirs, source=None, split="test", checkpoint="best", out=out, allow_leak=False, explain=IMAGES
        )
    told = {
        "command": shlex.join(["python", "-m", "benchmarks.explanations", *workdirs]),
        "machine": machine(),
        "versions": provenance.versions(),
        **{key: found[key] for key in ("source", "split", "explanations")},
    }
    path = RESULTS / f"explanations_{found['source']['name']}.json"
    write_json(path, json.loads(json.dumps(told, default=float), parse_float=lambda text: round(float(text), 5)))
    return path


def table(found: dict) -> str:
    """Markdown of the maps' areas against the controls', on drawn faces with the share inside the true cues."""
    lines = []
    for net, told in found["explanations"]["members"].items():
        for head in ("age", "gender"):
            for name, row in told[head]["maps"].items():
                if name in CONTROLS:
                    continue
                cells = [_told(row[f"minus_{c}"][kind]) for kind in ("deletion", "insertion") for c in CONTROLS]
                inside = [_told(row["localisation"]["minus_area"])] if "localisation" in row else []
                lines.append([net, head, overlay.name(name), *cells, *inside])
    headings = [*HEADINGS, "inside cues"][: len(lines[0])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, ["---"] * len(headings), *lines])


def _told(estimate: dict) -> str:
    low, high = estimate["ci95"]
    return f"{estimate['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", nargs="*")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        for path in sorted(RESULTS.glob("explanations_*.json")):
            print(f"{path.name}\n\n{table(json.loads(path.read_text()))}\n")
        return
    pages.use_large()
    compiled.keep()
    print(measure(given.workdir))


if __name__ == "__main__":
    main()
