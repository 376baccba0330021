"""Scores of the variants of an ablation over seeds, their differences from the base, and tables of these."""

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from agegender_jax import ensemble, metrics, report
from agegender_jax.evaluation.members import ENSEMBLE
from agegender_jax.run.ablate.variants import Variant
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.structs import Probs

HEAD_OF = {"age_accuracy": "age", "gender_accuracy": "gender", "aabd": "age"}
FEW_SEEDS = 5  # with fewer, resampled seeds do not represent other seeds


def results(
    variants: Sequence[Variant], predictions: Sequence[Sequence[Probs]], dataset: Dataset, with_ensemble: bool
) -> dict:
    """Return the variants with their scores, and their differences.

    Args:
      predictions: for each variant, the Probs of each of S seeds on the test split of `dataset`.
      with_ensemble: add the ensemble of all variants, averaged within each seed, and compare it with each of them.

    Returns:
      variants: name, the fields that it sets (for the ensemble, its members), the trained heads, whether it is a
        control, the means of the scores over the seeds, and by_seed, S floats for each score.
      differences: a, b and for each score `metrics.compare` of the outcomes of a and b: every variant compared with the
        base, then the ensemble with every variant.
      Scores of a head that is not trained are None.
    """
    rows = [{"name": v.name, "fields": v.fields, "heads": list(v.heads), "control": v.control} for v in variants]
    pairs = [(i, 0) for i in range(1, len(variants))]
    if with_ensemble:
        predictions = [*predictions, [ensemble.mean_probs(members) for members in zip(*predictions, strict=True)]]
        heads = [head for head in ("age", "gender") if all(head in v.heads for v in variants)]
        members, control = [v.name for v in variants], any(v.control for v in variants)
        rows.append({"name": ENSEMBLE, "members": members, "heads": heads, "control": control})
        pairs += [(len(variants), i) for i in range(len(variants))]
    outcomes = [_outcomes(probs, row["heads"], dataset) for probs, row in zip(predictions, rows, strict=True)]
    for row, values in zip(rows, outcomes, strict=True):
        row |= {name: None if seeds is None else metrics.mean(seeds) for name, seeds in values.items()}
        row["by_seed"] = {
            name: None if seeds is None else [metrics.mean(seed) for seed in seeds] for name, seeds in values.items()
        }
    group = dataset.prepared.group[dataset.indices("test")]
    differences = [
        {"a": rows[a]["name"], "b": rows[b]["name"]}
        | {name: _compare(outcomes[a][name], outcomes[b][name], group) for name in HEAD_OF}
        for a, b in pairs
    ]
    return {"variants": rows, "differences": differences}


def _outcomes(predictions: Sequence[Probs], heads: Sequence[str], dataset: Dataset) -> dict[str, np.ndarray | None]:
    """Return the outcomes of each score, int [S, N]; None if its head is not among `heads`."""
    labels = dataset.targets("test")
    seeds = [metrics.outcomes(np.asarray(p.age), np.asarray(p.gender), *labels) for p in predictions]
    return {name: np.stack([seed[name] for seed in seeds]) if head in heads else None for name, head in HEAD_OF.items()}


def _compare(a: np.ndarray | None, b: np.ndarray | None, group: np.ndarray) -> dict | None:
    return None if a is None or b is None else metrics.compare(a, b, group)


def show(ablation: dict, progress: Progress) -> None:
    """Print the differences: one table for each pair, what the intervals cover, collapsed heads and leaks."""
    by_name = {row["name"]: row for row in ablation["variants"]}
    progress.note(f"test split of {ablation['source']['name']}, {ablation['n']} images, {_listed(ablation['seeds'])}")
    for difference in ablation["differences"]:
        progress.show(_table(difference, by_name[difference["a"]], by_name[difference["b"]]))
    progress.note(ablation["caution"])
    for run in ablation["runs"]:
        for head in run["collapsed"]:
            progress.warn(f"the {head} head of {run['variant']}, seed {run['seed']}, has collapsed")
        if run["allow_leak"]:
            progress.warn(f"{run['variant']}, seed {run['seed']}, started from a net that has seen test images")


def caution(seeds: int) -> str:
    """Return a sentence about what the intervals cover."""
    if seeds == 1:
        return "one seed: the intervals cover the choice of test images alone; another seed may change the sign"
    text = f"{seeds} seeds: the intervals resample seeds and test images together"
    return text if seeds >= FEW_SEEDS else f"{text}, but so few seeds are weak evidence about others: see their range"


def _table(difference: dict, a: dict, b: dict) -> Table:
    table = Table(title=f"{_label(a)} against {_label(b)}", title_justify="left")
    for heading in ("score", "first", "second", "the first is, with 95 % interval", "over the seeds"):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, text in (("age_accuracy", "age accuracy"), ("gender_accuracy", "gender accuracy"), ("aabd", "AABD")):
        cells = ("not trained in both", "") if difference[name] is None else _cells(difference[name], name)
        table.add_row(text, *("n/a" if row[name] is None else f"{row[name]:.3f}" for row in (a, b)), *cells)
    return table


def _listed(seeds: Sequence[int]) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"


def _label(row: dict) -> str:
    return f"{row['name']} (a control)" if row["control"] else row["name"]


def _cells(difference: dict, score: str) -> tuple[str, str]:
    """Return "better by 0.012 [-0.003, 0.027]" and "-0.004 to 0.020"; after "worse by" all signs are reversed."""
    if difference["difference"] is None:
        return "n/a", ""
    verdict, (by, low, high, least, most) = report.better_by(
        score, difference["difference"], *difference["ci95"], *difference["range"]
    )
    return f"{verdict} by {by} [{low}, {high}]", f"{least} to {most}"
