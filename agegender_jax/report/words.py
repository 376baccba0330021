"""Numbers as text, with their intervals."""

from collections.abc import Mapping
from typing import Any

NOTHING = "n/a"
SCORES = {  # name in the results: heading, what it is, format
    "age_accuracy": ("age accuracy", "most probable bucket is the label's", ".3f"),
    "gender_accuracy": ("gender accuracy", "more probable gender is the label's", ".3f"),
    "aabd": ("AABD", "mean absolute difference of bucket indices", ".3f"),
    "adjacent_accuracy": ("adjacent accuracy", "bucket at most one away", ".3f"),
    "age_mae": ("age MAE", "years, of the expected age", ".2f"),
    "cs5": ("CS@5", "share within 5 years", ".3f"),
    "age_kappa": ("age kappa", "Cohen's, quadratic weights", ".3f"),
    "gender_balanced_accuracy": ("balanced gender accuracy", "mean of both recalls", ".3f"),
    "gender_auc": ("gender AUC", "area under ROC of P(female)", ".3f"),
    "minors_as_adults": ("minors as adults", "share of under-18s whose expected age is 18 or more", ".3f"),
}
MAIN = ("age_accuracy", "gender_accuracy", "aabd")


def number(value: float | None, form: str = ".3f") -> str:
    return NOTHING if value is None else format(value, form)


def interval(ends: Any, form: str = ".3f") -> str:
    """ "[0.560, 0.637]", or nothing for None."""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""


def estimate(row: Mapping, score: str) -> str:
    """A score of a model or group with its interval."""
    form = SCORES[score][2]
    return f"{number(row.get(score), form)} {interval((row.get('ci95') or {}).get(score), form)}".strip()


def difference(pair: Mapping, score: str) -> str:
    """A paired difference with its sign and interval."""
    found, form = pair.get(score) or {}, "+" + SCORES[score][2]
    return f"{number(found.get('difference'), form)} {interval(found.get('ci95'), form)}".strip()


def is_clear(pair: Mapping, score: str) -> bool:
    """Whether the interval of a paired difference leaves 0 out."""
    ends = (pair.get(score) or {}).get("ci95")
    return bool(ends) and not ends[0] <= 0 <= ends[1]


def plain(value: Any) -> str:
    """A setting's value: empty text as "none", the rest as Python writes it, without quotes."""
    return f"{value}" if value != "" else "none"
