"""List the weights that this version ships, or those of a folder, with their scores.

agegender weights [NAME…] [--weights_dir=DIR]

Each line of scores names its images and gives the accuracies of the age group, of the age group within one, and of the
gender. With NAME, also 95 % intervals, how often the age interval contains the age and how often the gender is not
`unsure`, the error rates of predict's --over, and the scores of groups of faces. The cards, the .json files next to the
weights, have more; their folder is printed.
"""

from typing import Any

from absl import flags

from agegender_jax import files, weights
from agegender_jax.errors import CheckpointError, ConfigError

WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Another folder of weights.")

COMPUTES = False
TAKES_ARGUMENTS = True
SCORES = ("age", "age_accuracy"), ("within one", "adjacent_accuracy"), ("gender", "gender_accuracy"), ("AABD", "aabd")


def main(chosen: list[str]) -> None:
    folder = files.expand(WEIGHTS_DIR.value, "--weights_dir") if WEIGHTS_DIR.value else weights.FOLDER
    names = chosen or weights.names(folder)
    for name in names:
        try:
            print(_described(weights.card(name, folder), bool(chosen)))
        except CheckpointError as error:
            if chosen:
                raise
            print(files.printable(f"{name}: {error.what}"))
    if names:
        print(f"cards: {files.printable(str(folder))}")
    elif WEIGHTS_DIR.value:
        fix = "name another folder; launch.calibrate --weights_out and export --to=safetensors write weights"
        raise ConfigError("there are no weights in the folder", str(folder), fix)
    else:
        print("this version ships no weights: train nets (python -m launch.train) and name their runs with --workdir")


def _described(card: weights.Card, all_scores: bool) -> str:
    """Return a line about the net, or the members of the ensemble, and indented lines for the known scores.

    Raises:
      CheckpointError: the card, which can come from elsewhere, has other kinds of values.
    """
    try:
        return _lines(card, all_scores)
    except files.MALFORMED as error:
        what = f"the card of the weights cannot be described: {type(error).__name__} {error}"
        raise CheckpointError(what, f"{card.name}.json", "correct its fields, or use other weights") from error


def _lines(card: weights.Card, all_scores: bool) -> str:
    if card.members:
        what = " + ".join(card.members)
    else:
        size = card.config["data"]["image_size"]
        what = f"{card.config['model']['name']}, width {card.config['model']['width']}, {size}x{size} pixels"
    about = [card.about[name] for name in ("training", "licence") if name in card.about]
    lines = [f"{card.name}: {', '.join([what, *map(str, about)])}"]
    for source, scores in card.about.get("scores", {}).items():
        intervals = scores.get("ci95", {}) if all_scores else {}
        known = [_score(label, key, scores, intervals) for label, key in SCORES if key in scores]
        lines.append(f"  {source} (n = {scores.get('n', '?')}): {', '.join(known)}")
        if all_scores:
            lines += [f"    {line}" for line in [*_doubts(scores), *_groups(scores.get("groups", {}))]]
    return "\n".join(map(files.printable, lines))


def _score(label: str, key: str, scores: dict[str, Any], intervals: dict[str, Any]) -> str:
    interval = " [{:.3f}, {:.3f}]".format(*intervals[key]) if key in intervals else ""
    return f"{label} {scores[key]:.3f}{interval}"


def _doubts(scores: dict[str, Any]) -> list[str]:
    """Return lines on the intervals of the age, `unsure` and the decisions of --over."""
    lines = []
    if "interval_coverage" in scores:
        lines.append(f"interval holds the age {_percent(scores['interval_coverage'])}")
    if "sure" in scores:
        share, right = (_percent(scores["sure"][name]) for name in ("share", "gender_accuracy"))
        lines.append(f"gender is sure {share}, right where sure {right}")
    for years, over in scores.get("over", {}).items():
        below, above, unsure = (_percent(over[name]) for name in ("yes_below", "no_above", "unsure"))
        lines.append(f"over {years}: yes for {below} of those below, no for {above} of the others, unsure {unsure}")
    return lines


def _groups(kinds: dict[str, Any]) -> list[str]:
    """Return a table of the scores of groups of faces."""
    groups = [item for kind in kinds.values() for item in kind.items()]
    if not groups:
        return []
    width = max(len(name) for name, _ in groups)
    lines = [f"{'':{width}}      n    age  gender   AABD  interval"]
    for name, group in groups:
        scores = f"{group['age_accuracy']:5.2f}  {group['gender_accuracy']:6.2f}  {group['aabd']:5.2f}"
        lines.append(f"{name:{width}}  {group['n']:5}  {scores}  {_percent(group['interval_coverage']):>8}")
    return lines


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.1f} %"
