"""What a run or an evaluation leaves: members scored alone and together, and the files that say so."""

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from rich.table import Table

from agegender_jax import ensemble, files, models, report
from agegender_jax.checkpoint import check_match, load_variables
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import processes
from agegender_jax.run.inputs import Faces
from agegender_jax.run.logs import MetricsLog
from agegender_jax.run.progress import Progress
from agegender_jax.run.workdir import Workdir, write_json
from agegender_jax.structs import Probs


def build_model(config: dict, axis_name: str | None = None):
    """The net of a config, as a dict."""
    fields = dict(config["model"])
    return models.build(fields.pop("name"), num_age_classes=NUM_AGE_BUCKETS, axis_name=axis_name, **fields)


def member(place: Workdir, which: str | int, faces: Faces, split: str, name: str, progress: Progress) -> report.Member:
    """The answers of a workdir's net, rebuilt from the workdir alone, to the images of a split, by all devices.

    Only process 0 reads the workdir; every process gets all answers.

    Raises:
      CheckpointError: no usable checkpoint, or one that its own config does not fit.
    """
    variables = config = step = None
    with processes.together():
        if processes.is_first():
            variables, config, step = load_variables(place.checkpoints, which, progress.warn)
            check_match(variables, shapes(config), place.checkpoints / str(step))
    config, step = processes.of_first((config, step))
    variables = processes.broadcast(variables if processes.is_first() else processes.zeros(shapes(config)))
    model = build_model(config)
    if len(faces.indices(split)):
        size = config["data"]["image_size"]
        batches = faces.eval_batches(split, size, config["eval"]["batch_size"], progress.prepare)
        probs = ensemble.predict_all(model, variables, batches, devices=jax.devices(), allow_control=True)
    else:
        probs = Probs(np.zeros((0, NUM_AGE_BUCKETS), np.float32), np.zeros((0, 2), np.float32))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    return report.Member(name, place.given, step, parameters, probs, model.gender_to_age)


def shapes(config: dict):
    """The variables of a config's net, as jax.ShapeDtypeStruct."""
    model, size = build_model(config), config["data"]["image_size"]
    return jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, size, size, 3), np.float32), train=False))


def write(
    out: Path,
    members: Sequence[report.Member],
    faces: Faces,
    split: str,
    progress: Progress,
    allow_leak: bool = False,
    explained: report.Explained | None = None,
) -> dict:
    """Writes predictions.csv, figures/, report.html and last results.json to `out`, and shows the table."""
    where, prepared = faces.indices(split), faces.prepared
    age, gender = faces.targets(split)
    source = {"name": prepared.name, "fingerprint": prepared.fingerprint}
    found = report.results(
        members, age, gender, prepared.race[where], split=split, source=source, allow_leak=allow_leak
    )
    last = report.answers(members)
    curves = [report.Curve(m.name, MetricsLog(Workdir(m.workdir).metrics).read()) for m in members]
    drawn = report.draw(last, age, gender, lambda i: faces.picture(where[i]), curves, found["models"][-1]["name"])
    sections = []
    if explained:
        found["explanations"], drawn = explained.results, drawn | explained.figures
        sections.append(report.explanations(explained.results))
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for name, png in drawn.items():
        files.replace(out / "figures" / name, png)
    files.replace(
        out / "predictions.csv", report.predictions(prepared.file[where], prepared.age_text[where], gender, last)
    )
    files.replace(out / "report.html", report.page(found, drawn, sections))
    write_json(out / "results.json", found)
    progress.show(table(found))
    progress.note(f"report: {out / 'report.html'}")
    return found


def table(found: dict) -> Table:
    """The models of a results dict, for a terminal."""
    shown = Table(title=f"{found['split']} split of {found['source']['name']}, {found['n']} images, 95 % intervals")
    for i, heading in enumerate(("model", "parameters", "age accuracy", "gender accuracy", "AABD")):
        shown.add_column(heading, justify="right" if i else "left")
    for row in report.rows(found):
        shown.add_row(*row)
    return shown
