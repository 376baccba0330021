"""What a run or an evaluation leaves: members scored alone and together, and the files that say so."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from agegender_jax import evaluation, files, loading, metrics, models, report
from agegender_jax.evaluation import Member
from agegender_jax.run import attention_figure
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.workdir import Workdir, provenance, summary, write_json
from agegender_jax.structs import Probs


def write_results(
    out: Path,
    members: Sequence[Member],
    faces: Dataset,
    split: str,
    progress: Progress,
    allow_leak: bool = False,
    command: Sequence[str] = (),
    draw: bool = True,
    explain: Callable[[], report.Explained] | None = None,
    excluded_leaked: int = 0,
) -> dict:
    """Writes predictions.csv, figures/, report.html and last results.json to `out`, and shows the table.

    Figures of an earlier call are removed where there are no new ones.

    Args:
      command: arguments of the program that scores the members; of the run, where it is its own training.
      draw: figures too, besides those of `explain`.
      explain: maps of some images and what they are worth, see `evidence`. It may take minutes: all else is written
        before, and the page and results.json again after.
      excluded_leaked: number of images that were left out because a member has seen them.
    """
    where, prepared = faces.indices(split), faces.prepared
    age, gender = faces.targets(split)
    source = {"name": prepared.name, "fingerprint": prepared.fingerprint}
    found = evaluation.results(
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
    found["excluded_leaked"] = excluded_leaked
    last = evaluation.answers(members)
    runs = [summary.read(Workdir(m.workdir), m.name, m.step) for m in members]
    found["made_by"] = provenance.made_by(command or (runs[0].run.get("command", ()) if len(runs) == 1 else ()))
    drawn = figures(members, found, last, runs, faces, split) if draw else {}
    predicted = evaluation.predictions(prepared.file[where], prepared.age_text[where], gender, last)
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
    members: Sequence[Member],
    found: dict,
    last: Probs,
    runs: Sequence[report.Run],
    faces: Dataset,
    split: str,
) -> dict[str, bytes]:
    """PNG bytes by file name: `report.draw`, and the masks of each member that has any over a few faces."""
    examples, people = pictured(members, found, last, faces, split)
    drawn = report.draw(examples, people, found, runs)
    chosen = examples.across_ages(attention_figure.FACES)
    pictures, labels = [examples.picture(i) for i in chosen], [examples.label(i) for i in chosen]
    for member in members if pictures else ():
        place = Workdir(member.workdir)
        model = models.from_config(place.read_config()["model"])
        if attention_figure.has_masks(model):
            _, variables, config, _ = loading.load_checkpoint(place.path, member.step)
            size = config["data"]["image_size"]
            drawn[f"attention_{member.name}.png"] = attention_figure.draw(model, variables, pictures, labels, size)
    return drawn


def pictured(
    members: Sequence[Member], found: dict, last: Probs, faces: Dataset, split: str
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
        evaluation.bucket_years(members),
    )
    return examples, report.Population(prepared.name, years, prepared.age, prepared.gender, scored)


def table(found: dict) -> Table:
    """The models of a results dict, for a terminal."""
    title = f"{found['split']} split of {found['source']['name']}, {found['n']} images, 95 % intervals"
    return _table(title, ("model", "parameters", "age accuracy", "gender accuracy", "AABD"), evaluation.rows(found))


def details(found: dict) -> Table:
    """More scores of the models, for a terminal."""
    heads = ("model", "MAE, years", "CS@5", "adjacent", "gender AUC", "age ECE", "gender ECE")
    title = "MAE and CS@5 of the expected age; calibration error (ECE)"
    title += " before -> after temperatures" if found["calibrated"] else ", no temperatures"
    return _table(title, heads, evaluation.details(found))


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    shown = Table(title=title)
    for i, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if i else "left")
    for row in rows:
        shown.add_row(*row)
    return shown
