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

from agegender_jax.run import evaluate
from agegender_jax.run.host import compile_cache, large_pages
from agegender_jax.run.workdir import write_json
from benchmarks.machine import RESULTS, machine

IMAGES = 64
CONTROLS = ("random", "blob")
AREAS = [(kind, control) for kind in ("deletion", "insertion") for control in CONTROLS]
HEADINGS = ["net, decision", "map", *(f"{kind} minus {control}" for kind, control in AREAS), "likeness"]
ON_DRAWN = ["inside cues", "largest inside, by chance"]


def measure(workdirs: list[str]) -> pathlib.Path:
    """Explains IMAGES images of the test split by every net, and keeps the numbers; where."""
    with tempfile.TemporaryDirectory() as out:
        found = evaluate.evaluate(
            workdirs, source=None, split="test", checkpoint="best", out=out, allow_leak=False, explain=IMAGES
        )
    told = {
        "command": shlex.join(["python", "-m", "benchmarks.explanations", *workdirs]),
        "machine": machine(),
        "versions": found["made_by"]["versions"],
        "git_revision": found["made_by"]["git_revision"],
        "nets": [{key: model.get(key) for key in ("name", "step", "parameters")} for model in found["models"][:-1]],
        **{key: found[key] for key in ("source", "split", "explanations")},
    }
    path = RESULTS / f"explanations_{found['source']['name']}.json"
    write_json(path, json.loads(json.dumps(told, default=float), parse_float=lambda text: round(float(text), 5)))
    return path


def table(found: dict) -> str:
    """Markdown of the maps' areas against the controls', likeness to a random net's map, and hits of true cues."""
    lines = []
    for net, told in found["explanations"]["members"].items():
        for head in ("age", "gender"):
            for name, row in told[head]["maps"].items():
                if name in CONTROLS:
                    continue
                cells = [_told(row[f"minus_{control}"][kind]) for kind, control in AREAS]
                cells.append(f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " fails"))
                if "localisation" in row:
                    inside, hits = row["localisation"], row["localisation"]["pointing"]
                    rate = (
                        f"{hits['mean']:.2f} {format.interval(hits['ci95'], '.2f')}, {inside['pointing_by_chance']:.2f}"
                    )
                    cells += [_told(inside["minus_area"]), rate]
                lines.append([f"{net}, {head}", format.map_name(name), *cells])
    headings = [*HEADINGS, *ON_DRAWN][: len(lines[0])]
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, ["---"] * len(headings), *lines])


def _told(estimate: dict) -> str:
    return f"{estimate['mean']:+.3f} {format.interval(estimate['ci95'], '+.3f')}".strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", nargs="*")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        for path in sorted(RESULTS.glob("explanations_*.json")):
            print(f"{path.name}\n\n{table(json.loads(path.read_text()))}\n")
        return
    large_pages.use_large()
    compile_cache.keep()
    print(measure(given.workdir))


if __name__ == "__main__":
    main()
