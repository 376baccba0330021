"""Measure what the paper's ideas are worth with the recipe `best`: gender for the age head, attention, tasks, ensemble.

python -m benchmarks.ideas --source=crop_part1.tar [--seeds=0,1,2] [--only="Attention-56,no masks"]
python -m benchmarks.ideas --table    # of the results file

Every run is ResNet-18 at width 0.5 or Attention-56 at width 0.25, 64 pixels and 12 epochs, and is scored on test with
its best checkpoint on val. Repeat the command to resume; processes with different seeds can share the folder. Runs are
in runs/ideas, results in benchmarks/results/ideas.json.
"""

import argparse
import itertools
import pathlib
import shutil
import types
from typing import Any

from agegender_jax import config as config_lib
from agegender_jax import ensemble
from agegender_jax.cli.exits import guard
from agegender_jax.configs import best
from agegender_jax.metrics import SCORES
from agegender_jax.run import dataset, train
from agegender_jax.run.ablate import comparison
from agegender_jax.run.host import compile_cache, ynnpack
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir, finished_runs
from benchmarks import arguments, made_by, result_files, tables

NAME = "ideas"
KINDS = ("none", "probs", "logits", "hard", "stop_gradient", "true", "shuffled")
HIDDEN = (0, 64)


def feed(kind: str, hidden: int) -> str:
    return f"{kind} and {hidden} hidden units" if hidden else kind


RAN = {"model.name": "ran56", "model.width": 0.25}
RUNS: dict[str, dict[str, Any]] = {
    feed(kind, hidden): {"model.gender_to_age": kind, "model.age_hidden": hidden} for hidden in HIDDEN for kind in KINDS
}
RUNS |= {
    "Attention-56": RAN,
    "wider without masks": RAN | {"model.learning": "none", "model.width": 0.288},  # as many parameters, to 1 %
    "no masks": RAN | {"model.learning": "none"},
    "age alone": {"model.gender_to_age": "none", "loss.gender_weight": 0.0},
    "gender alone": {"model.gender_to_age": "none", "loss.age_weight": 0.0},
}
Members = tuple[tuple[str, int], ...]  # nets whose probabilities are averaged: a run, and which seed after the first
BOTH: Members = (("Attention-56", 0), ("probs", 0))
COMPARISONS: tuple[tuple[str, Members, Members], ...] = (
    *(
        (
            f"gender fed as {kind} minus not fed" + (f", both with {hidden} hidden units" if hidden else ""),
            ((feed(kind, hidden), 0),),
            ((feed("none", hidden), 0),),
        )
        for hidden in HIDDEN
        for kind in KINDS[1:]
    ),
    ("64 hidden units minus no hidden layer, gender not fed", ((feed("none", 64), 0),), (("none", 0),)),
    ("Attention-56 minus no masks", (("Attention-56", 0),), (("no masks", 0),)),
    ("Attention-56 minus wider without masks", (("Attention-56", 0),), (("wider without masks", 0),)),
    ("both tasks minus age alone", (("none", 0),), (("age alone", 0),)),
    ("both tasks minus gender alone", (("none", 0),), (("gender alone", 0),)),
    ("ensemble minus Attention-56", BOTH, (("Attention-56", 0),)),
    ("ensemble minus ResNet-18", BOTH, (("probs", 0),)),
    ("ensemble minus two Attention-56", BOTH, (("Attention-56", 0), ("Attention-56", 1))),
    ("ensemble minus two ResNet-18", BOTH, (("probs", 0), ("probs", 1))),
)


def config_of(name: str, seed: int, source: str):
    config = best.get_config("resnet,cpu")
    config.update({"seed": seed, "num_epochs": 12, "model": {"width": 0.5}})
    config.data.update(source=source, image_size=64)
    config.optimizer.ema = 0.995  # of a short run
    config.eval.every_epochs = 4
    config.log.figures = False
    config.update_from_flattened_dict(RUNS[name])
    config_lib.validate(config)
    return config


def heads(name: str) -> tuple[str, ...]:
    """Return the heads that a run trains."""
    return tuple(head for head in ("age", "gender") if RUNS[name].get(f"loss.{head}_weight", 1))


def workdir(folder: pathlib.Path, name: str, seed: int) -> Workdir:
    return Workdir(folder / name.replace(" ", "_") / f"seed{seed}")


def summary(folder: pathlib.Path, seeds: list[int], source: str, progress: Progress) -> dict:
    """Return the scores of the runs that are finished with all seeds, and the comparisons between them."""
    data = dataset.load_dataset(config_of("probs", 0, source), progress.prepare)
    finished = {
        name: [workdir(folder, name, seed) for seed in seeds]
        for name in RUNS
        if all(finished_runs.is_finished(workdir(folder, name, seed)) for seed in seeds)
    }
    probs = {name: [finished_runs.predictions(run, data) for run in runs] for name, runs in finished.items()}

    def scored(members: Members):
        """Return the means of the members' probabilities, one for each seed, as a variant of an ablation."""
        turned = [probs[name][offset:] + probs[name][:offset] for name, offset in members]
        means = [ensemble.mean_probs(of) if len(of) > 1 else of[0] for of in zip(*turned, strict=True)]
        common = tuple(head for head in ("age", "gender") if all(head in heads(name) for name, _ in members))
        return types.SimpleNamespace(name="", fields={}, heads=common, control=False), means

    def compared(a: Members, b: Members) -> dict:
        (b_variant, b_means), (a_variant, a_means) = scored(b), scored(a)
        result = comparison.results((b_variant, a_variant), (b_means, a_means), data, with_ensemble=False)
        return {score: result["differences"][0][score] for score in SCORES}

    rows = []
    for name, runs in finished.items():
        variant, means = scored(((name, 0),))
        (row,) = comparison.results((variant,), (means,), data, with_ensemble=False)["variants"]
        rows.append(
            {
                "name": name,
                "fields": RUNS[name],
                "parameters": finished_runs.tested(runs[0])["parameters"],
                "seconds": [finished_runs.seconds(run) for run in runs],
                **{score: row[score] for score in SCORES},
                "by_seed": row["by_seed"],
            }
        )
    return {
        "split": "test",
        "n": len(data.indices("test")),
        "seeds": seeds,
        "fingerprint": data.prepared.fingerprint,
        "runs": rows,
        "comparisons": [
            {"name": name, **compared(a, b)}
            for name, a, b in COMPARISONS
            if all(member in finished for member, _ in (*a, *b))
            # two seeds are one pair of nets, and one seed is none
            and (len(seeds) > 2 or not any(offset for _, offset in (*a, *b)))
        ],
        "made_by": made_by.made_by(NAME, source, seeds=",".join(map(str, seeds))),
    }


def table(results: dict) -> str:
    """Return the scores of the runs, means over the seeds, and the differences with 95 % intervals, as Markdown."""
    titles = ["age accuracy", "gender accuracy", "AABD"]
    runs = [["net", "parameters", *titles], ["---", "--:", *["---"] * 3]]
    for run in results["runs"]:
        cells = ["" if run[score] is None else f"{run[score]:.3f}" for score in SCORES]
        runs.append([run["name"], f"{run['parameters']:,}", *cells])
    differences = [["", *titles], ["---"] * 4]
    for row in results["comparisons"]:
        cells = ["" if row[score] is None else tables.difference(row[score]) for score in SCORES]
        differences.append([row["name"], *cells])
    return f"{tables.markdown(runs)}\n\n{tables.markdown(differences)}"


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", help="the images, as data.source")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--only", default="", help="runs to train, with commas; all by default")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/ideas"))
    parser.add_argument("--table", action="store_true", help="print the table of the results file and stop")
    args = parser.parse_args()
    if not args.table:
        if not args.source:
            parser.error("--source is missing")
        compile_cache.turn_on()
        seeds = [int(seed) for seed in args.seeds.split(",")]
        names = arguments.names(parser, "--only", args.only, RUNS) if args.only else list(RUNS)
        with Progress() as progress:
            for seed, name in itertools.product(seeds, names):
                run = workdir(args.workdir, name, seed)
                if not finished_runs.is_finished(run):
                    progress.note(f"{name}, seed {seed}")
                    train.fit(config_of(name, seed, args.source), str(run.path), [f"benchmarks.{NAME}"], progress)
                shutil.rmtree(run.checkpoints, ignore_errors=True)
            path = result_files.RESULTS / f"{NAME}.json"
            if path.exists() and (others := set(result_files.read(NAME)["seeds"]) - set(seeds)):
                progress.note(
                    f"{path.name} also has the seeds {sorted(others)}: it is written by a call with all seeds"
                )
                return
            results = summary(args.workdir, seeds, args.source, progress)
        result_files.write(path, results)
    print(table(result_files.read(NAME)))


if __name__ == "__main__":
    guard(main)
