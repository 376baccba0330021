"""The table of all systems as Markdown."""

from typing import Any


def render(content: dict) -> str:
    """Return the page of baselines.json: scores, sizes and times, and paired differences to the reference."""
    lines = [
        f"Test split of {content['source']['name']} ({content['source']['fingerprint'][:16]}), {content['n']} images.",
        "95 % intervals in brackets; seconds of training steps, or of the fit.",
        "",
        "| system | cites | start | parameters | M multiply-adds | seconds | age | one-off | gender | AABD |",
        "|---|---|---|--:|--:|--:|---|---|---|---|",
    ]
    for row in content["systems"]:
        sizes = [f"{row['parameters']:,}", f"{row['multiply_adds'] / 1e6:,.1f}"] if "parameters" in row else ["", ""]
        scores = [_score(row, name) for name in ("age_accuracy", "age_one_off", "gender_accuracy", "aabd")]
        cells = [row["name"], row["cites"], row.get("starts_from", ""), *sizes, f"{row.get('seconds', '')}", *scores]
        lines.append(f"| {' | '.join(cells)} |")
    reference = content["reference"]
    lines += [
        "",
        f"Paired differences to {reference}:",
        "",
        "| system | age | gender | AABD | differs from its paper |",
    ]
    lines.append("|---|---|---|---|---|")
    for row in content["systems"]:
        if row["name"] != reference:
            values = [_difference(row, reference, name) for name in ("age_accuracy", "gender_accuracy", "aabd")]
            lines.append(f"| {' | '.join([row['name'], *values, row['differs']])} |")
    return "\n".join(lines) + "\n"


def _score(row: dict[str, Any], name: str) -> str:
    value, interval = row.get(name), row.get("ci95", {}).get(name)
    if value is None:
        return ""
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def _difference(row: dict[str, Any], reference: str, name: str) -> str:
    found = row.get("differences", {}).get(reference, {}).get(name)
    if not found:
        return ""
    low, high = found["ci95"]
    return f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
