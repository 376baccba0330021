"""Tables of results for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from agegender_jax import evaluation, files


def scores(results: dict) -> Table:
    """Return the main scores of all models."""
    title = f"{results['split']} split of {results['source']['name']}, {results['n']} images, 95 % intervals"
    return _table(title, ("model", "parameters", "age accuracy", "gender accuracy", "AABD"), evaluation.rows(results))


def details(results: dict) -> Table:
    """Return further scores of all models: expected age, AUC and calibration."""
    headings = ("model", "MAE, years", "CS@5", "adjacent", "gender AUC", "age ECE", "gender ECE")
    title = "MAE and CS@5 of the expected age; calibration error (ECE)"
    title += " before -> after temperatures" if results["calibrated"] else ", no temperatures"
    return _table(title, headings, evaluation.details(results))


def _table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=files.printable(title))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    for row in rows:
        table.add_row(*map(files.printable, row))
    return table
