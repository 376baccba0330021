"""Numbers as text, with their intervals."""

from collections.abc import Mapping, Sequence
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
MAPS = {"grad_cam": "Grad-CAM", "integrated_gradients": "integrated gradients", "lrp": "LRP", "blob": "centred blob"}
MAIN = ("age_accuracy", "gender_accuracy", "aabd")
LESS_IS_BETTER = ("aabd", "age_mae", "minors_as_adults")


def map_name(key: str) -> str:
    """What a map is called in figures and tables."""
    return MAPS.get(key, key.replace("attention_", "mask "))


def number(value: float | None, form: str = ".3f") -> str:
    return NOTHING if value is None else format(value, form)


def interval(ends: Any, form: str = ".3f") -> str:
    """ "[0.560, 0.637]", or nothing for None."""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""


def estimate(row: Mapping, score: str) -> str:
    """A score of a model or group with its interval."""
    form = SCORES[score][2]
    return f"{number(row.get(score), form)} {interval((row.get('ci95') or {}).get(score), form)}".strip()


def difference(pair: Mapping, score: str, form: str = "") -> str:
    """A paired difference with its sign and interval; nothing where there is none."""
    found, form = pair.get(score) or {}, form or "+" + SCORES[score][2]
    return f"{number(found['difference'], form)} {interval(found['ci95'], form)}".strip() if found else ""


def better_by(score: str, *numbers: float) -> tuple[str, list[str]]:
    """ "better" or "worse", by the sign of a difference in a score, and all numbers with the signs of that reading.

    Args:
      numbers: the difference, and the ends of ranges of it, which are swapped where their signs are.
    """
    difference, *ends = numbers
    better = (difference <= 0) if score in LESS_IS_BETTER else (difference >= 0)
    sign = 1 if difference >= 0 else -1
    pairs = zip(ends[::2], ends[1::2], strict=True)
    told = [difference, *(end for pair in pairs for end in pair[::sign])]
    return "better" if better else "worse", [f"{round(sign * x, 3) + 0:.3f}" for x in told]  # + 0: no -0.000


def compared(pair: Mapping, scores: Sequence[str]) -> str:
    """A pair of results.json in words: "ran against resnet: AABD better by 0.012 [-0.003, 0.027]; ..."."""
    told = []
    for score in scores:
        found = pair[score]
        if found["difference"] is None:
            continue
        verdict, (by, low, high) = better_by(score, found["difference"], *found["ci95"])
        told.append(f"{SCORES[score][0]} {verdict} by {by} [{low}, {high}]")
    return f"{pair['a']} against {pair['b']}: {'; '.join(told)}"


def is_clear(pair: Mapping, score: str) -> bool:
    """Whether the interval of a paired difference leaves 0 out."""
    ends = (pair.get(score) or {}).get("ci95")
    return bool(ends) and not ends[0] <= 0 <= ends[1]


def plain(value: Any) -> str:
    """A setting's value: empty text as "none", the rest as Python writes it, without quotes."""
    return f"{value}" if value != "" else "none"
