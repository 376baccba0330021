"""Numbers with their intervals as text."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agegender_jax import files

NOTHING = "n/a"
SCORES = {  # name in the results: (heading, meaning, format)
    "age_accuracy": ("age accuracy", "predicted bucket is correct", ".3f"),
    "gender_accuracy": ("gender accuracy", "predicted gender is correct", ".3f"),
    "aabd": ("AABD", "mean absolute difference of bucket indices", ".3f"),
    "aabd_median": ("AABD of the median", "of the median bucket of the distribution, not the most probable", ".3f"),
    "adjacent_accuracy": ("adjacent accuracy", "bucket off by at most one", ".3f"),
    "age_mae": ("age MAE", "years, expected age", ".2f"),
    "cs5": ("CS@5", "expected age within 5 years", ".3f"),
    "age_kappa": ("age kappa", "Cohen's, quadratic weights", ".3f"),
    "gender_balanced_accuracy": ("balanced gender accuracy", "mean recall of both genders", ".3f"),
    "gender_auc": ("gender AUC", "area under ROC of P(female)", ".3f"),
    "minors_as_adults": ("minors as adults", "share of under-18s whose expected age is 18 or more", ".3f"),
}
MAPS = {
    "grad_cam": "Grad-CAM",
    "integrated_gradients": "integrated gradients",
    "lrp": "LRP",
    "lrp_composite": "LRP, composite",
    "blob": "centred blob",
}
MAIN = ("age_accuracy", "gender_accuracy", "aabd")
LESS_IS_BETTER = ("aabd", "aabd_median", "age_mae", "minors_as_adults")


def map_name(key: str) -> str:
    """Return the name of a map for figures and tables."""
    return MAPS.get(key, key.replace("attention_", "mask "))


def number(value: float | None, form: str = ".3f") -> str:
    """Return a formatted number, or NOTHING for None."""
    return NOTHING if value is None else format(value, form)


def markdown(text: Any) -> str:
    """Return text in one line, escaped so that Markdown shows it literally."""
    plain_text = files.printable(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*\[\]|])", r"\\\1", plain_text)


def code(text: Any) -> str:
    """Return text as a Markdown code span in one line, whatever backticks it contains."""
    line = files.printable(str(text))
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}"


def interval(ends: Any, form: str = ".3f") -> str:
    """Return "[0.560, 0.637]", or "" for None."""
    return f"[{ends[0]:{form}}, {ends[1]:{form}}]" if ends else ""


def estimate(row: Mapping, score: str) -> str:
    """Return a score of a model or group with its interval."""
    form = SCORES[score][2]
    return f"{number(row.get(score), form)} {interval((row.get('ci95') or {}).get(score), form)}".strip()


def difference(pair: Mapping, score: str, form: str = "") -> str:
    """Return a paired difference with its sign and interval, or "" if the pair lacks the score."""
    row, form = pair.get(score) or {}, form or "+" + SCORES[score][2]
    return f"{number(row['difference'], form)} {interval(row['ci95'], form)}".strip() if row else ""


def better_by(score: str, *numbers: float) -> tuple[str, list[str]]:
    """Return "better" or "worse" for a difference in a score, and all numbers with the sign that fits this word.

    Args:
      numbers: the difference, followed by the ends of ranges around it, which are swapped if their signs are.
    """
    difference, *ends = numbers
    better = (difference <= 0) if score in LESS_IS_BETTER else (difference >= 0)
    sign = 1 if difference >= 0 else -1
    pairs = zip(ends[::2], ends[1::2], strict=True)
    signed = [difference, *(end for pair in pairs for end in pair[::sign])]
    return "better" if better else "worse", [f"{round(sign * x, 3) + 0:.3f}" for x in signed]  # + 0: no -0.000


def compared(pair: Mapping, scores: Sequence[str]) -> str:
    """Describe a pair of results.json: "ran against resnet: AABD better by 0.012 [-0.003, 0.027]; ..."."""
    texts = []
    for score in scores:
        row = pair[score]
        if row["difference"] is None:
            continue
        verdict, (by, low, high) = better_by(score, row["difference"], *row["ci95"])
        texts.append(f"{SCORES[score][0]} {verdict} by {by} [{low}, {high}]")
    return f"{pair['a']} against {pair['b']}: {'; '.join(texts)}"


def is_clear(pair: Mapping, score: str) -> bool:
    """Return whether the interval of a paired difference excludes 0."""
    return excludes_zero((pair.get(score) or {}).get("ci95"))


def excludes_zero(ends: Sequence[float] | None) -> bool:
    """Return whether an interval, None if there is none, excludes 0."""
    return ends is not None and not ends[0] <= 0 <= ends[1]


def plain(value: Any) -> str:
    """Return the value of a setting without quotes; "none" for empty text."""
    return f"{value}" if value != "" else "none"
