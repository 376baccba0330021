"""Measure the effect of each change of the training recipe on val: short runs, one change at a time, over seeds.

python -m benchmarks.recipe_ladder --source=crop_part1.tar [--seeds=0,1] [--only="AdamW,mixup"]
    [--utkface=UTKFace.tar] [--fairface=fairface] [--results=recipe_ladder]
python -m benchmarks.recipe_ladder --table [--results=recipe_ladder]    # of the results file

Each rung is another rung with some fields changed. Every run is ResNet-18 at width 0.5 or Attention-56 at width 0.25,
64 pixels and 12 epochs, if its rung does not say otherwise. It is scored at its last step, not at its best one, so that
nothing is chosen on the images it is scored on. Rungs with more images need their paths; --fairface is what
`launch.align` makes of FairFace's. Repeat the command to resume. Runs are in --workdir, results in
benchmarks/results/<--results>.json; docs/recipe.md shows them. Rungs measured later, on another machine, take a
--workdir and --results of their own, and the rung that they change once more.
"""

import argparse
import collections
import copy
import dataclasses
import itertools
import json
import pathlib
import shutil
from typing import Any

import numpy as np

from agegender_jax import config as config_lib
from agegender_jax import metrics
from agegender_jax.cli.exits import guard
from agegender_jax.configs import resnet
from agegender_jax.data import split_exceptions
from agegender_jax.metrics import SCORES
from agegender_jax.run import checks, dataset, train
from agegender_jax.run.host import compile_cache, ynnpack
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.scoring.split_predictions import predict_member
from agegender_jax.run.workdir import Workdir, finished_runs, provenance, write_csv
from benchmarks import arguments, result_files, tables

NAME = "recipe_ladder"
SOURCES = ("utkface", "fairface")
EPOCHS = 12


@dataclasses.dataclass(frozen=True)
class Rung:
    """A recipe: another one, with fields changed.

    Attributes:
      name, on: its name, and that of the other one; "" for none.
      fields: those that differ.
      start: fields of a run on other images, from whose weights it starts; {} for random weights.
    """

    name: str
    on: str
    fields: dict[str, Any]
    start: dict[str, Any] = dataclasses.field(default_factory=dict)

    def data(self) -> set[str]:
        """Return the names of the sources that it needs beside the ladder's own."""
        values = [*self.fields.values(), *self.start.values()]
        return {name for name in SOURCES for value in values if f"{{{name}}}" in str(value)}


ADAMW = {"batch_size": 64, "optimizer.lr": 0.001, "optimizer.weight_decay": 0.05}
AVERAGE = {"optimizer.ema": 0.995}
SMOOTHING = {"loss.label_smoothing": 0.1, "model.dropout": 0.2}
WINDOW = {
    "augment.crop": 0.3,
    "augment.expand": 0.1,
    "augment.aspect": 0.1,
    "augment.rotation": 10.0,
    "augment.shift": 0.05,
}
YEARS = {"loss.age": "years", "loss.age_spread": 0.3}
BEST = {"augment.grey": 0.02, "augment.mixup": 0.2} | YEARS
BASE = "windows and rotation"
RUNGS = (
    Rung("shipped", "", {}),
    Rung("AdamW", "shipped", ADAMW),
    Rung("moving average", "AdamW", AVERAGE),
    Rung("smoothing and dropout", "moving average", SMOOTHING),
    Rung(BASE, "smoothing and dropout", WINDOW),
    Rung("colour", BASE, {"augment.colour": 0.3, "augment.grey": 0.05}),
    Rung("erasing", BASE, {"augment.erasing": 0.25}),
    Rung("mixup", BASE, {"augment.mixup": 0.2}),
    Rung("stochastic depth", BASE, {"model.stochastic_depth": 0.1}),
    Rung("dldl", BASE, {"loss.age": "dldl"}),
    Rung("ordinal", BASE, {"loss.age": "ordinal"}),
    Rung("mean_variance", BASE, {"loss.age": "mean_variance"}),
    Rung("years", BASE, YEARS),
    Rung("weights of rare ages", BASE, {"loss.age_balance": 0.3}),
    Rung("rate 0.002", BASE, {"optimizer.lr": 0.002}),
    Rung("rate 0.004", BASE, {"optimizer.lr": 0.004}),
    Rung("decay 0.2", BASE, {"optimizer.weight_decay": 0.2}),
    Rung("best", BASE, BEST),
    Rung("80 pixels", BASE, {"data.image_size": 80}),
    Rung("width 1", BASE, {"model.width": 1.0}),
    Rung("30 epochs", BASE, {"num_epochs": 30}),
    Rung("30 epochs at rate 0.002", "30 epochs", {"optimizer.lr": 0.002}),
    # as many images as in 30 epochs of crop_part1
    Rung("with UTKFace", "30 epochs", {"num_epochs": 11, "data.train_on": "{utkface}"}),
    Rung("UTKFace first", "30 epochs", {"num_epochs": 12}, {"num_epochs": 10, "data.train_on": "{utkface}"}),
    Rung("with FairFace", "30 epochs", {"num_epochs": 6, "data.train_on": "{fairface}"}),
    Rung("FairFace first", "30 epochs", {"num_epochs": 12}, {"num_epochs": 4, "data.train_on": "{fairface}"}),
    Rung("Attention-56", "", {"model.name": "ran56", "model.width": 0.25}),
    Rung("Attention-56 best", "Attention-56", ADAMW | AVERAGE | SMOOTHING | WINDOW | BEST),
)
BY_NAME = {rung.name: rung for rung in RUNGS}


def fields(name: str) -> dict[str, Any]:
    """Return all fields that differ from the shipped recipe."""
    rung = BY_NAME[name]
    return (fields(rung.on) if rung.on else {}) | rung.fields


def config_of(name: str, seed: int, source: str, extra: dict[str, str] | None = None, start: bool = False):
    """Return the config of a rung, or of the run that it starts from; `extra` has the paths of further SOURCES."""
    config = copy.deepcopy(resnet.get_config("18"))
    config.update({"seed": seed, "num_epochs": EPOCHS, "model": {"width": 0.5}})
    config.data.update(source=source, image_size=64)
    config.log.figures = False
    config.eval.every_epochs = 4
    for field, value in (fields(name) | (BY_NAME[name].start if start else {})).items():
        for extra_name, path in (extra or {}).items():
            value = value.replace(f"{{{extra_name}}}", path) if isinstance(value, str) else value
        config.update_from_flattened_dict({field: value})
    if start:
        config.eval.every_epochs = config.num_epochs  # so that its last step is its best
    config_lib.validate(config)
    return config


def run(name: str, seed: int, source: str, folder: pathlib.Path, progress: Progress, extra=None) -> dict:
    """Train a rung with a seed, or find it trained; return the outcomes on val and what they rest on.

    Raises:
      ConfigError: the folder holds a run of the rung with other fields, made by another version of this file.
    """
    run = Workdir(folder / name.replace(" ", "_") / f"seed{seed}")
    file, config = run.path / "ladder.json", config_of(name, seed, source, extra)
    first_run = Workdir(run.path.with_name(f"start{seed}"))
    if BY_NAME[name].start:
        config.init_from = str(first_run.path)
    checks.same_recipe(run, config)  # that of the images is compared in `main`
    if not file.exists():
        if BY_NAME[name].start:
            first = config_of(name, seed, source, extra, start=True)
            first.data.exclude = str(_own_images(first, run.path.parent, progress))
            train.fit(first, config.init_from, [f"benchmarks.{NAME}", name, str(seed)], progress)
        train.fit(config, str(run.path), [f"benchmarks.{NAME}", name, str(seed)], progress)
        faces = dataset.load_dataset(config, progress.prepare)
        member = predict_member(run, "latest", faces, "val", name, progress, calibrate=False)
        outcomes = metrics.outcomes(member.probs.age, member.probs.gender, *faces.targets("val"))
        order = np.argsort(faces.prepared.file[faces.indices("val")])  # joined sources may have another
        row = {
            "rung": name,
            "seed": seed,
            "step": member.step,
            "seconds": sum(map(finished_runs.seconds, [first_run, run] if BY_NAME[name].start else [run])),
            "parameters": member.parameters,
            "fingerprint": faces.prepared.fingerprint,
            "outcomes": {score: outcomes[score][order].tolist() for score in SCORES},
            "made_by": provenance.made_by([f"benchmarks.{NAME}"]),
        }
        result_files.write(file, row)
        shutil.rmtree(run.checkpoints)
    return json.loads(file.read_text())


def _own_images(config, folder: pathlib.Path, progress: Progress) -> pathlib.Path:
    """Write a CSV for `data.exclude`, so that the run trains on `data.train_on` alone, less copies of val and test."""
    faces, path = dataset.load_dataset(config, progress.prepare), folder / "own.csv"
    files = faces.prepared.file[faces.indices("train")]
    own = split_exceptions.belongs_to(files, split_exceptions.own_names(config.data.source, config.data.train_on))
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(path, ("file",), [(file,) for file in files[own]])
    return path


def _has_other_images(row: dict, fingerprint: str) -> bool:
    """Return whether a rung without further sources has another fingerprint than that of the ladder's source."""
    return not BY_NAME[row["rung"]].data() and row["fingerprint"] != fingerprint


def own_faces(source: str, progress: Progress) -> dataset.Dataset:
    """Return the ladder's own images, without further sources."""
    return dataset.load_dataset(config_of("shipped", 0, source), progress.prepare)


def groups(faces: dataset.Dataset) -> np.ndarray:
    """Return the groups of near-duplicates of the images of val, int [N], in the order of the outcomes of `run`."""
    val = faces.indices("val")
    return faces.prepared.group[val[np.argsort(faces.prepared.file[val])]]


def summary(rows: list[dict], group: np.ndarray | None = None) -> dict:
    """Return the scores of every rung and its differences to the rung that it changes, over the seeds of both.

    Intervals treat the images of a `group` (see `groups`) as one unit.
    """
    by_rung = collections.defaultdict(dict)
    for row in rows:
        by_rung[row["rung"]][row["seed"]] = row
    rungs = []
    for rung in RUNGS:
        own, base = by_rung[rung.name], by_rung[rung.on] if rung.on else {}
        if not own:
            continue
        shared = sorted(own.keys() & base.keys())
        row = {"name": rung.name, "on": rung.on, "fields": rung.fields, "seeds": sorted(own), "shared": shared}
        row |= {"start": rung.start} if rung.start else {}
        for score in SCORES:
            row[score] = float(np.mean([own[seed]["outcomes"][score] for seed in own]))
            pair = [np.array([of[seed]["outcomes"][score] for seed in shared]) for of in (own, base)]
            row[f"{score}_gain"] = metrics.compare(*pair, group) if shared else None
        rungs.append(row)
    first = rows[0]
    return {
        "split": "val",
        "n": len(first["outcomes"]["aabd"]),
        "fingerprint": first["fingerprint"],
        "epochs": EPOCHS,
        "rungs": rungs,
        "made_by": first["made_by"],
    }


def table(results: dict) -> str:
    """Return the rungs as Markdown: fields, scores, and differences to the changed rung."""
    lines = [
        "| recipe | changes | fields | seeds | age accuracy | gender accuracy | AABD |",
        "|---|---|---|--:|---|---|---|",
    ]
    for rung in results["rungs"]:
        cells = [_cell(rung[score], rung[f"{score}_gain"]) for score in SCORES]
        first = [rung["name"], rung["on"] or "-", _fields(rung), _seeds(rung)]
        lines.append(f"| {' | '.join(map(str, first + cells))} |")
    return "\n".join(lines)


def _seeds(rung: dict) -> str:
    """Return the number of seeds of the scores, and of those of the differences if they are fewer."""
    count, shared = len(rung["seeds"]), len(rung.get("shared", rung["seeds"]))
    return f"{count}, {shared} shared" if 0 < shared < count else str(count)


def _fields(rung: dict) -> str:
    """Return the fields that differ, as typed after `--config.`; first those of the run that it starts from."""
    parts = [rung["start"], rung["fields"]] if "start" in rung else [rung["fields"]]
    texts = [" ".join(f"`{field}={value}`" for field, value in part.items()) for part in parts]
    return ", then ".join(texts) or "-"


def _cell(score: float, gain: dict | None) -> str:
    return f"{score:.3f}" if gain is None else f"{score:.3f}, {tables.difference(gain)}"


def main() -> None:
    ynnpack.avoid()  # as the commands do
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", help="the images, as data.source")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--only", default="", help="rungs to train, with commas; by default all that have images")
    for name in SOURCES:
        parser.add_argument(f"--{name}", help="more images to train on, as data.source")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/recipe"))
    parser.add_argument("--results", default=NAME, help="name of the results file, without .json")
    parser.add_argument("--table", action="store_true", help="print the table of the results file and stop")
    args = parser.parse_args()
    results = result_files.RESULTS / f"{args.results}.json"
    if not args.table:
        if not args.source:
            parser.error("--source is missing")
        compile_cache.turn_on()
        extra = {name: getattr(args, name) for name in SOURCES if getattr(args, name)}
        names = (
            arguments.names(parser, "--only", args.only, BY_NAME)
            if args.only
            else [rung.name for rung in RUNGS if rung.data() <= extra.keys()]
        )
        if missing := set().union(*(BY_NAME[name].data() for name in names)) - extra.keys():
            parser.error(f"these rungs need --{' and --'.join(sorted(missing))}")
        with Progress() as progress:
            faces = own_faces(args.source, progress)
            group, fingerprint = groups(faces), faces.prepared.fingerprint
            if others := [row["rung"] for row in _all_rows(args.workdir) if _has_other_images(row, fingerprint)]:
                parser.error(f"{args.workdir} has runs on other images than {args.source}: {', '.join(others)}")
            there = {row["rung"] for row in _all_rows(args.workdir)} | set(names)
            if dropped := [row["name"] for row in _rungs(results) if row["name"] not in there]:
                parser.error(
                    f"{results} has rungs that {args.workdir} lacks: {', '.join(dropped)}; name another --results"
                )
            for seed, name in itertools.product(map(int, args.seeds.split(",")), names):
                progress.note(f"{name}, seed {seed}")
                run(name, seed, args.source, args.workdir, progress, extra)
                result_files.write(results, summary(_all_rows(args.workdir), group))
    print(table(result_files.read(args.results)))


def _rungs(path: pathlib.Path) -> list[dict]:
    return json.loads(path.read_text())["rungs"] if path.exists() else []


def _all_rows(folder: pathlib.Path) -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*/seed*/ladder.json"))]


if __name__ == "__main__":
    guard(main)
