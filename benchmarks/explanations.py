"""Measure the explanations of trained nets with `launch.evaluate --explain` and print them as Markdown.

python -m benchmarks.explanations runs/quickstart/ran runs/quickstart/resnet     # results/explanations_synthetic.json
python -m benchmarks.explanations runs/ran runs/resnet                           # results/explanations_crop_part1.json
python -m benchmarks.explanations --table                                        # prints the tables of both
"""

import argparse
import json
import pathlib
import shlex
import tempfile

from agegender_jax.cli.exits import guard
from agegender_jax.explain.map_scores import CONTROLS
from agegender_jax.report import formatting
from agegender_jax.run import evaluate
from agegender_jax.run.host import compile_cache, large_pages, ynnpack
from benchmarks import result_files
from benchmarks.machine import machine

IMAGES = 64
AREAS = [(kind, control) for kind in ("deletion", "insertion") for control in CONTROLS]
HEADINGS = ["net, decision", "map", *(f"{kind} minus {control}" for kind, control in AREAS), "likeness"]
ON_DRAWN = ["inside cues", "largest inside, by chance"]


def measure(workdirs: list[str]) -> pathlib.Path:
    """Score every net's maps on IMAGES test images and return the path of the results file."""
    with tempfile.TemporaryDirectory() as out:
        results = evaluate.evaluate(
            workdirs, source=None, split="test", checkpoint="best", out=out, allow_leak=False, explain=IMAGES
        )
    value = {
        "command": shlex.join(["python", "-m", "benchmarks.explanations", *workdirs]),
        "machine": machine(),
        "versions": results["made_by"]["versions"],
        "git_revision": results["made_by"]["git_revision"],
        "nets": [{key: model.get(key) for key in ("name", "step", "parameters")} for model in results["models"][:-1]],
        **{key: results[key] for key in ("source", "split", "explanations")},
    }
    path = result_files.RESULTS / f"explanations_{results['source']['name']}.json"
    rounded = json.loads(json.dumps(value, default=float), parse_float=lambda text: round(float(text), 5))
    result_files.write(path, rounded)
    return path


def table(measured: dict) -> str:
    """Return Markdown: areas minus those of the control maps, likeness to a random net's map, hits of true cues."""
    lines = []
    for net, heads in measured["explanations"]["members"].items():
        for head in ("age", "gender"):
            for name, row in heads[head]["maps"].items():
                if name in CONTROLS:
                    continue
                cells = [_estimate(row[f"minus_{control}"][kind]) for kind, control in AREAS]
                cells.append(f"{row['sanity']['last']:.2f}" + ("" if row["sanity"]["passes"] else " fails"))
                if "localisation" in row:
                    cells += _localisation(row["localisation"])
                lines.append([f"{net}, {head}", formatting.map_name(name), *cells])
    return _markdown([*HEADINGS, *ON_DRAWN][: len(lines[0])], lines)


def relevance_table(measured: dict) -> str:
    """Return Markdown: scores of the relevance maps that the report shows, `nets` of explanations_relevance.json."""
    drawn = "cues_minus_area" in measured["nets"][0]["age"]["lrp"]
    headings = ["net", "prediction", "rules", "deletion", "insertion", *["inside cues"][:drawn], "similarity"]
    lines = []
    for net in measured["nets"]:
        for head in ("age", "gender"):
            rules = "composite" if "lrp_composite" in net[head] else "epsilon"
            row = net[head]["lrp_composite" if rules == "composite" else "lrp"]
            estimates = ["deletion_minus_random", "insertion_minus_random", *["cues_minus_area"][:drawn]]
            similarity = f"{row['similarity_to_random_net']:.2f}"
            lines.append([net["net"], head, rules, *(_estimate(row[name]) for name in estimates), similarity])
    return _markdown(headings, lines)


def patches_table(measured: dict) -> str:
    """Return Markdown: how often only the patches of the largest or smallest weights give the same prediction."""
    lines = [
        [count, head, f"{row['largest']:.2f}", f"{row['smallest']:.2f}", _estimate(row["difference"])]
        for count, heads in measured["patches"]["few"].items()
        for head, row in heads.items()
    ]
    return _markdown(["patches", "prediction", "largest weights", "smallest weights", "difference"], lines)


def _markdown(headings: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, ["---"] * len(headings), *lines])


def _localisation(scores: dict) -> list[str]:
    hits = scores["pointing"]
    rate = f"{hits['mean']:.2f} {formatting.interval(hits['ci95'], '.2f')}, {scores['pointing_by_chance']:.2f}"
    return [_estimate(scores["minus_area"]), rate]


def _estimate(estimate: dict) -> str:
    return f"{estimate['mean']:+.3f} {formatting.interval(estimate['ci95'], '+.3f')}".strip()


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workdir", nargs="*")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        for source in ("synthetic", "crop_part1"):
            print(f"explanations_{source}.json\n\n{table(result_files.read(f'explanations_{source}'))}\n")
        return
    if not args.workdir:
        parser.error("no run is named")
    large_pages.use_large()
    compile_cache.turn_on()
    print(measure(args.workdir))


if __name__ == "__main__":
    guard(main)
