"""Score the members of an evaluation and write results.json, predictions.csv, figures and report.html."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agegender_jax import evaluation, files, loading, metrics, models, report
from agegender_jax.errors import CheckpointError
from agegender_jax.evaluation import Member
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.scoring import attention_figure, result_tables
from agegender_jax.run.workdir import Workdir, provenance, training_summary, write_json
from agegender_jax.structs import Probs


def write_results(
    out: Path,
    members: Sequence[Member],
    dataset: Dataset,
    split: str,
    progress: Progress,
    allow_leak: bool = False,
    command: Sequence[str] = (),
    draw: bool = True,
    explain: Callable[[], report.Explained] | None = None,
    excluded_leaked: int = 0,
) -> dict:
    """Write predictions.csv, figures/, report.html and, last, results.json to `out`; print tables; return the results.

    Figures of an earlier call are deleted unless they are drawn again.

    Args:
      members: the members with their predictions for the images of `split`.
      command: arguments of the evaluating program; if empty, those of the run itself are used.
      draw: draw figures other than those of `explain`.
      explain: returns explanations of some images, see `explain_evaluation`. It may take minutes, so all other files
        are written before, and the report and results.json again afterwards.
      excluded_leaked: number of images left out because a member has seen them.
    """
    results = _score(members, dataset, split, allow_leak) | {"excluded_leaked": excluded_leaked}
    probs = evaluation.ensemble_probs(members)
    runs = [training_summary.read(Workdir(member.workdir), member.name, member.step) for member in members]
    results["made_by"] = provenance.made_by(command or (runs[0].run.get("command", ()) if len(runs) == 1 else ()))
    figures = draw_figures(members, results, probs, runs, dataset, split, progress.warn) if draw else {}
    prepared, rows = dataset.prepared, dataset.indices(split)
    labels = prepared.age_text[rows], prepared.age[rows], prepared.gender[rows]
    predictions = evaluation.predictions(prepared.file[rows], *labels, probs)
    files.replace(out / "predictions.csv", predictions)
    results["predictions_sha256"] = files.sha256(out / "predictions.csv")

    def save(new_figures: dict[str, bytes], sections: Sequence[dict] = ()) -> None:
        for name, png in new_figures.items():
            files.replace(out / "figures" / name, png)
        files.replace(out / "report.html", report.page(results, figures, runs, command, sections))
        write_json(out / "results.json", results)

    (out / "figures").mkdir(parents=True, exist_ok=True)
    for path in (out / "figures").iterdir():
        if report.is_figure(path.name) and path.name not in figures:
            path.unlink()
    save(figures)
    progress.show(result_tables.scores(results))
    progress.show(result_tables.details(results))
    for pair in results["paired"]:
        progress.note(report.compared(pair, (*metrics.SCORES, "age_mae")))
    if explain:
        explained = explain()
        results["explanations"] = explained.results
        figures |= explained.figures
        sections = [report.explanations(explained.results), report.relevance_section(explained.results)]
        save(explained.figures, [section for section in sections if section])
    progress.note(f"report: {out / 'report.html'}")
    return results


def _score(members: Sequence[Member], dataset: Dataset, split: str, allow_leak: bool) -> dict:
    rows, prepared = dataset.indices(split), dataset.prepared
    return evaluation.results(
        members,
        prepared.age[rows],
        prepared.gender[rows],
        prepared.race[rows],
        age_years=prepared.age_years[rows],
        age_text=prepared.age_text[rows],
        split=split,
        source={"name": prepared.name, "fingerprint": prepared.fingerprint},
        allow_leak=allow_leak,
        group=prepared.group[rows],
    )


def draw_figures(
    members: Sequence[Member],
    results: dict,
    probs: Probs,
    runs: Sequence[report.Run],
    dataset: Dataset,
    split: str,
    warn: Callable[[str], None],
) -> dict[str, bytes]:
    """Return PNG bytes by file name, from `report.draw` and for the attention masks of every member over a few faces.

    Args:
      probs: predictions of the last model.
      warn: receives a line about each member whose checkpoint a training has removed, and whose masks are not drawn.
    """
    examples, people = figure_data(members, results, probs, dataset, split)
    figures = report.draw(examples, people, results, runs)
    chosen = examples.across_ages(attention_figure.FACES)
    pictures, labels = [examples.picture(i) for i in chosen], [examples.label(i) for i in chosen]
    for member in members if pictures else ():
        run = Workdir(member.workdir)
        model = models.from_config((run.read_config() or {})["model"])
        if attention_figure.has_masks(model):
            try:
                _, variables, config, _ = loading.load_checkpoint(run.path, member.step)
            except CheckpointError as error:
                warn(f"no figure of the attention masks of {member.name}: {error.what}")
                continue
            size = config["data"]["image_size"]
            figures[f"attention_{member.name}.png"] = attention_figure.draw(model, variables, pictures, labels, size)
    return figures


def figure_data(
    members: Sequence[Member], results: dict, probs: Probs, dataset: Dataset, split: str
) -> tuple[report.Examples, report.Population]:
    """Return the data for `report.draw`: the evaluated images with predictions, and all images of their source."""
    rows, prepared = dataset.indices(split), dataset.prepared
    scored = np.zeros(len(prepared.gender), bool)
    scored[rows] = True
    years, (age, gender) = prepared.age_years, dataset.targets(split)
    examples = report.Examples(
        results["models"][-1]["name"],
        probs,
        years[rows],
        age,
        gender,
        lambda i: dataset.picture(rows[i]),
        prepared.group[rows],
        evaluation.bucket_years(members),
    )
    return examples, report.Population(prepared.name, years, prepared.age, prepared.gender, scored)
