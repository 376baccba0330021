"""Collect the scores of runs and evaluations of nets that were trained on crop_part1, with those of the weak groups.

python -m benchmarks.crop_scores "ResNet-18, width 1=runs/best_resnet" "ensemble=reports/both" [...]
python -m benchmarks.crop_scores --on=UTKFace "ensemble=reports/others"
python -m benchmarks.crop_scores --table    # of the results file

Each argument is a name and the folder of a run of `launch.train` or of an --out of `launch.evaluate`, whose last model
is taken. --on names the images that were scored: all rows of one name must have the same ones. Rows are added to
benchmarks/results/crop_scores.json, in place of those with the same name. Results with leaked images are refused.
"""

import argparse
import csv
import hashlib
import json
import pathlib

from agegender_jax.cli.exits import guard
from agegender_jax.metrics import SCORES
from agegender_jax.run.workdir import Workdir, finished_runs, training_summary
from agegender_jax.run.workdir.metrics_log import MetricsLog
from benchmarks import result_files, tables

NAME = "crop_scores"
OLD, CHILDREN = "40 and more", "below 10"
CROP_PART1 = "crop_part1, test"


def row(name: str, on: str, folder: pathlib.Path) -> dict:
    """Return the scores of the last model of a folder; of a run also those on val, at the step that was tested.

    Raises:
      ValueError: a model may have been trained on the scored images, or they are not the test split of CROP_PART1.
    """
    run = Workdir(folder)  # reports have the same names
    results = json.loads(run.results.read_text())
    if results["allow_leak"]:
        raise ValueError(f"{folder}: models may have been trained on the scored images")
    if on == CROP_PART1 and results["split"] != "test":
        raise ValueError(f"{folder}: the split {results['split']!r} was scored, not test")
    model, ages = results["models"][-1], results["groups"]["age"]
    scored = {"on": on, "name": name, "n": results["n"], "test_images": _test_images(run.predictions)}
    if run.metrics.exists():
        scored |= _training(run, model["step"])
    else:
        scored["members"] = model.get("members", [model["name"]])
    return scored | {
        **{score: model[score] for score in SCORES},
        "aabd_median": model.get("aabd_median"),
        "majority": results["majority"],
        "ci95": {score: model["ci95"][score] for score in SCORES},
        OLD: _pooled([group for band, group in ages.items() if int(band.partition("-")[0].strip("+")) >= 40]),
        CHILDREN: _pooled([ages["0-9"]]),
    }


def _training(run: Workdir, step: int) -> dict:
    """Return epochs, seconds of steps, sources and the scores on val of a run at a step."""
    config, logged = run.read_config(), MetricsLog(run.metrics).read()
    val = next(line for line in reversed(logged) if line["split"] == "val" and line["step"] == step)
    further = [pathlib.Path(path).name for path in config["data"]["train_on"].split(",") if path]
    return {
        "epochs": config["num_epochs"],
        "seconds": finished_runs.seconds(run),
        "train_on": [pathlib.Path(config["data"]["source"]).name, *further],
        "val": {
            "n": training_summary.split_sizes(run)["val"],
            **{score: val[score] for score in (*SCORES, "loss", "calibrated_loss")},
        },
    }


def _test_images(path: pathlib.Path) -> str:
    """Return a digest of the names and labels of the scored images, without the sources that joined data name."""
    with open(path, newline="") as file:
        images = sorted(
            (row["file"].rpartition("/")[2], row["true_age"], row["true_gender"]) for row in csv.DictReader(file)
        )
    return hashlib.sha256(json.dumps(images).encode()).hexdigest()[:16]


def _pooled(groups: list[dict]) -> dict:
    """Return n and the mean scores over the images of several age groups."""
    n = sum(group["n"] for group in groups)
    return {"n": n} | {score: sum(group["n"] * group[score] for group in groups) / n for score in SCORES}


def table(results: dict, on: str = CROP_PART1) -> str:
    """Return the rows on some images as Markdown."""
    rows = [of for of in results["rows"] if of["on"] == on]
    first = rows[0]
    old, children = f"age, {OLD} (n = {first[OLD]['n']})", f"gender, {CHILDREN} (n = {first[CHILDREN]['n']})"
    heads = ["", "minutes", "val: age, gender, loss", "age accuracy", "gender accuracy", "AABD", old, children]
    lines = [heads, ["---"] + ["--:"] + ["---"] * 4 + ["--:"] * 2]
    for of in rows:
        lines.append(
            [
                of["name"],
                f"{of['seconds'] / 60:.0f}" if "val" in of else "",
                _val(of),
                *(tables.with_interval(of, score) for score in SCORES),
                f"{of[OLD]['age_accuracy']:.2f}",
                f"{of[CHILDREN]['gender_accuracy']:.2f}",
            ]
        )
    if not any("val" in of for of in rows):
        lines = [[line[0], *line[3:]] for line in lines]
    return tables.markdown(lines)


def _val(of: dict) -> str:
    """Return the scores on val, with the number of its images if it is not that of the scored ones."""
    if not (val := of.get("val")):
        return ""
    count = val.get("n", of["n"])  # earlier rows do not have it
    text = f"{val['age_accuracy']:.3f}, {val['gender_accuracy']:.3f}, {val['calibrated_loss']:.3f}"
    return text if count == of["n"] else f"{text} (n = {count})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="NAME=FOLDER")
    parser.add_argument("--on", default=CROP_PART1, help="name of the images that were scored")
    parser.add_argument("--table", action="store_true", help="print the table of the results file and stop")
    args = parser.parse_args()
    path = result_files.RESULTS / f"{NAME}.json"
    rows = {(of["on"], of["name"]): of for of in (result_files.read(NAME)["rows"] if path.exists() else ())}
    for argument in args.rows:
        name, equals, folder = argument.rpartition("=")
        if not equals or not (pathlib.Path(folder) / "results.json").exists():
            parser.error(f"{argument} is not NAME=FOLDER of a finished run or an evaluation")
        try:
            rows[args.on, name] = row(name, args.on, pathlib.Path(folder))
        except ValueError as error:
            parser.error(str(error))
    if len({of["test_images"] for of in rows.values() if of["on"] == args.on}) > 1:
        parser.error("the folders have different test images")
    results = {"rows": list(rows.values())}
    if not args.table:
        result_files.write(path, results)
    for on in dict.fromkeys(of["on"] for of in results["rows"]):
        print(f"{on}\n\n{table(results, on)}\n")


if __name__ == "__main__":
    guard(main)
