"""Copy the scores in results/shipped_weights.json into the cards of the weights.

python -m benchmarks.card_scores
"""

import argparse
import json
from typing import Any

from agegender_jax import files, weights
from agegender_jax.cli.exits import guard
from agegender_jax.weights import cards
from benchmarks import result_files

DECIMALS = 6
SCORES = ("age_accuracy", "adjacent_accuracy", "gender_accuracy", "aabd")
GROUP_SCORES = ("age_accuracy", "gender_accuracy", "aabd")


def of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of one source as a card has them; shares are of all its images, or of a group."""
    held = row["coverage_by_group"]
    return of_model(row, -1) | {
        "interval_coverage": _value(row["coverage"]["measured"]),
        "sure": {name: _value(row["sure"][name]) for name in ("share", "gender_accuracy")},
        "over": {years: {name: _value(share) for name, share in over.items()} for years, over in row["over"].items()},
        "groups": {
            kind: {
                name: {"n": group["n"]}
                | {score: _short(group[score]) for score in GROUP_SCORES}
                | {"interval_coverage": _value(held.get(name))}
                for name, group in groups.items()
            }
            for kind, groups in row["groups"].items()
        },
    }


def of_model(row: dict[str, Any], i: int) -> dict[str, Any]:
    """Return the accuracies of one of the row's models: of a member, or of the ensemble, which is the last."""
    model = row["models"][i]
    return {
        "n": row["n"],
        **{name: _short(model[name]) for name in SCORES},
        "ci95": {name: [_short(bound) for bound in model["ci95"][name]] for name in SCORES},
    }


def _value(share: dict[str, Any] | None) -> float | None:
    return None if share is None else _short(share["value"])


def _short(value: float) -> float:
    return round(value, DECIMALS)


def of_card(name: str) -> dict[str, Any]:
    """Return the scores in the card of weights: all of an ensemble, the accuracies of a net in an ensemble."""
    rows = result_files.read("shipped_weights")
    models = [model["name"] for model in rows[0]["models"]]
    alone = name in models[:-1]
    return {row["name"]: of_model(row, models.index(name)) if alone else of(row) for row in rows}


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    for name in weights.names():
        path = weights.FOLDER / f"{name}.json"
        fields = json.loads(path.read_bytes())
        files.check_seal(fields)
        fields.pop(files.DIGEST)
        cards.write(path, fields | {"scores": of_card(name)})


if __name__ == "__main__":
    guard(main)
