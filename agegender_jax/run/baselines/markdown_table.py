"""The table of all systems as Markdown."""

from collections.abc import Callable, Sequence
from typing import Any

from agegender_jax.report.formatting import markdown

SCORES = {"age_accuracy": "age", "age_one_off": "one-off", "gender_accuracy": "gender", "aabd": "AABD"}


def render(content: dict) -> str:
    """Return the page of baselines.json: scores, sizes and times, paired differences, and what each row differs in."""
    rows, source = content["systems"], content["source"]
    columns: dict[str, Callable[[dict], str]] = {
        "system": lambda row: markdown(row["name"]),
        "cites": lambda row: row["cites"],
        "start": lambda row: row["starts_from"],
        "parameters": lambda row: _number(row, "parameters", ","),
        "M multiply-adds": lambda row: _number(row, "multiply_adds", ",.1f", 1e-6),
        "seconds": lambda row: _number(row, "seconds", ",.0f"),
        "images/s": lambda row: _number(row, "images_per_second", ",.0f"),
    } | {text: lambda row, name=name: _score(row, name) for name, text in SCORES.items()}
    lines = [
        f"Test split of {markdown(source['name'])} (fingerprint `{source['fingerprint'][:16]}`), n = {content['n']}. "
        "95 % intervals in brackets. Seconds: of the training steps, or of the fit. Images/s: predictions of batches "
        "of 64. The ensemble's sizes and times are sums over its members.",
        "",
        *_table(columns, rows, right=("parameters", "M multiply-adds", "seconds", "images/s")),
    ]
    if content["missing"]:
        lines += ["", f"Not finished yet: {', '.join(content['missing'])}."]
    seen = [row["name"] for row in rows if row.get("allow_leak")]
    seen += [name for name, about in content["against"].items() if about.get("allow_leak")]
    if seen:
        lines += ["", f"Started from a net that has seen images of the test split: {', '.join(map(markdown, seen))}."]
    for reference in content["references"]:
        about = content["against"].get(reference)
        described = f" ({about['model']}, width {about['width']:g}, {about['image_size']} px)" if about else ""
        columns = {"system": lambda row: markdown(row["name"])} | {
            SCORES[name]: lambda row, name=name, reference=reference: _difference(row, reference, name)
            for name in ("age_accuracy", "gender_accuracy", "aabd")
        }
        compared = [row for row in rows if row["name"] != reference]
        lines += ["", f"Paired differences to {markdown(reference)}{described}:", "", *_table(columns, compared)]
    columns = {"system": lambda row: markdown(row["name"]), "differs from its paper": lambda row: row["differs"]}
    lines += ["", *_table(columns, [row for row in rows if row["cites"] != "this library"])]
    return "\n".join(lines) + "\n"


def _table(columns: dict[str, Callable[[dict], str]], rows: Sequence[dict], right: Sequence[str] = ()) -> list[str]:
    lines = [list(columns), ["--:" if name in right else "---" for name in columns]]
    lines += [[cell(row) for cell in columns.values()] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _number(row: dict[str, Any], name: str, form: str, factor: float = 1) -> str:
    return "" if row.get(name) is None else format(row[name] * factor, form)


def _score(row: dict[str, Any], name: str) -> str:
    value, interval = row[name], row["ci95"].get(name)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _difference(row: dict[str, Any], reference: str, name: str) -> str:
    difference = row["differences"][reference][name]
    if not difference:
        return ""
    low, high = difference["ci95"]
    return f"{difference['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
