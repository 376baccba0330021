"""What a run or an evaluation leaves: members scored alone and together, and the files that say so."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.table import Table

from agegender_jax import ensemble, files, metrics, models, report
from agegender_jax.checkpoint import check_match, load_variables
from agegender_jax.errors import ConfigError
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run import attention, calibration, facts, processes, provenance
from agegender_jax.run.inputs import Faces
from agegender_jax.run.progress import Progress
from agegender_jax.run.workdir import Workdir, write_json
from agegender_jax.structs import Probs


def build_model(config: dict, axis_name: str | None = None):
    """The net of a config, as a dict; ConfigError for an option that this net does not have."""
    fields = dict(config["model"])
    try:
        return models.build(fields.pop("name"), num_age_classes=NUM_AGE_BUCKETS, axis_name=axis_name, **fields)
    except ValueError as error:
        todo = "leave that field at its default, or use another net"
        raise ConfigError(str(error), "--config.model", todo) from error


def member(
    place: Workdir,
    which: str | int,
    faces: Faces,
    split: str,
    name: str,
    progress: Progress,
    calibrate: bool = True,
) -> report.Member:
    """The answers of a workdir's net, rebuilt from the workdir alone, to the images of a split, by all devices.

    Only process 0 reads the workdir; every process gets all answers.

    Args:
      calibrate: apply the temperatures of the workdir's calibration.json, where it has one.

    Raises:
      CheckpointError: no usable checkpoint, one that its own config does not fit, or a damaged calibration.json.
    """
    variables = config = step = fitted = None
    with processes.together():
        if processes.is_first():
            variables, config, step = load_variables(place.checkpoints, which, progress.warn)
            check_match(variables, shapes(config), place.checkpoints / str(step))
            fitted = calibration.read(place)
    config, step, fitted = processes.of_first((config, step, fitted))
    variables = processes.broadcast(variables if processes.is_first() else processes.zeros(shapes(config)))
    model = build_model(config)
    if len(faces.indices(split)):
        size = config["data"]["image_size"]
        batches = faces.eval_batches(split, size, config["eval"]["batch_size"], progress.prepare)
        probs = ensemble.predict_all(model, variables, batches, devices=jax.devices(), allow_control=True)
    else:
        probs = Probs(np.zeros((0, NUM_AGE_BUCKETS), np.float32), np.zeros((0, 2), np.float32))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    raw = report.Member(name, place.given, step, parameters, probs, model.gender_to_age)
    return calibration.apply(fitted, raw, calibrate, progress.note)


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
    command: Sequence[str] = (),
    draw: bool = True,
    explain: Callable[[], report.Explained] | None = None,
) -> dict:
    """Writes predictions.csv, figures/, report.html and last results.json to `out`, and shows the table.

    Figures of an earlier call are removed where there are no new ones.

    Args:
      command: arguments of the program that scores the members; of the run, where it is its own training.
      draw: figures too, besides those of `explain`.
      explain: maps of some images and what they are worth, see `evidence`. It may take minutes: all else is written
        before, and the page and results.json again after.
    """
    where, prepared = faces.indices(split), faces.prepared
    age, gender = faces.targets(split)
    source = {"name": prepared.name, "fingerprint": prepared.fingerprint}
    found = report.results(
        members,
        age,
        gender,
        prepared.race[where],
        age_years=prepared.age_years[where],
        age_text=prepared.age_text[where],
        split=split,
        source=source,
        allow_leak=allow_leak,
    )
    last = report.answers(members)
    runs = [facts.read(Workdir(m.workdir), m.name, m.step) for m in members]
    found["made_by"] = provenance.made_by(command or (runs[0].run.get("command", ()) if len(runs) == 1 else ()))
    drawn = figures(members, found, last, runs, faces, split) if draw else {}
    predicted = report.predictions(prepared.file[where], prepared.age_text[where], gender, last)
    files.replace(out / "predictions.csv", predicted)

    def save(new: dict[str, bytes], sections: Sequence[dict] = ()) -> None:
        for name, png in new.items():
            files.replace(out / "figures" / name, png)
        files.replace(out / "report.html", report.page(found, drawn, runs, command, sections))
        write_json(out / "results.json", found)

    (out / "figures").mkdir(parents=True, exist_ok=True)
    for path in (out / "figures").iterdir():
        if report.is_figure(path.name) and path.name not in drawn:
            path.unlink()
    save(drawn)
    progress.show(table(found))
    progress.show(details(found))
    for pair in found["paired"]:
        progress.note(report.compared(pair, (*metrics.SCORES, "age_mae")))
    if explain:
        explained = explain()
        found["explanations"] = explained.results
        drawn |= explained.figures
        save(explained.figures, [report.explanations(explained.results)])
    progress.note(f"report: {out / 'report.html'}")
    return found


def figures(
    members: Sequence[report.Member],
    found: dict,
    last: Probs,
    runs: Sequence[report.Run],
    faces: Faces,
    split: str,
) -> dict[str, bytes]:
    """PNG bytes by file name: `report.draw`, and the masks of each member that has any over a few faces."""
    examples, people = pictured(members, found, last, faces, split)
    drawn = report.draw(examples, people, found, runs)
    chosen = examples.across_ages(attention.FACES)
    pictures, labels = [examples.picture(i) for i in chosen], [examples.label(i) for i in chosen]
    for member in members if pictures else ():
        place = Workdir(member.workdir)
        model = build_model(place.read_config())
        if attention.has_masks(model):
            variables, config, _ = load_variables(place.checkpoints, member.step)
            size = config["data"]["image_size"]
            drawn[f"attention_{member.name}.png"] = attention.draw(model, variables, pictures, labels, size)
    return drawn


def pictured(
    members: Sequence[report.Member], found: dict, last: Probs, faces: Faces, split: str
) -> tuple[report.Examples, report.Population]:
    """What `report.draw` shows: the scored images with the last model's answers, and all images of their source."""
    where, prepared = faces.indices(split), faces.prepared
    scored = np.zeros(len(prepared.gender), bool)
    scored[where] = True
    years, (age, gender) = prepared.age_years, faces.targets(split)
    examples = report.Examples(
        found["models"][-1]["name"],
        last,
        years[where],
        age,
        gender,
        lambda i: faces.picture(where[i]),
        report.bucket_years(members),
    )
    return examples, report.Population(prepared.name, years, prepared.age, prepared.gender, scored)


def table(found: dict) -> Table:
    """The models of a results dict, for a terminal."""
    title = f"{found['split']} split of {found['source']['name']}, {found['n']} images, 95 % intervals"
    return _table(title, ("model", "parameters", "age accuracy", "gender accuracy", "AABD"), report.rows(found))


def details(found: dict) -> Table:
    """More scores of the models, for a terminal."""
    heads = ("model", "MAE, years", "CS@5", "adjacent", "gender AUC", "age ECE", "gender ECE")
    title = "MAE and CS@5 of the expected age; calibration error (ECE)"
    title += " before -> after temperatures" if found["calibrated"] else ", no temperatures"
    return _table(title, heads, report.details(found))


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(title=title)
    for i, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if i else "left")
    for row in rows:
        shown.add_row(*row)
    return shown
