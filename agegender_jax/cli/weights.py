"""List the weights that this version ships, or those of a folder, with their scores.

agegender weights [--weights_dir=DIR]

Each line of scores names its images and gives the accuracies of the age group, of the age group within one, and of the
gender. The cards, the .json files next to the weights, have more; their folder is printed.
"""

from absl import flags

from agegender_jax import files, weights
from agegender_jax.errors import ConfigError

WEIGHTS_DIR = flags.DEFINE_string("weights_dir", None, "Another folder of weights.")

COMPUTES = False


def main() -> None:
    folder = files.expand(WEIGHTS_DIR.value, "--weights_dir") if WEIGHTS_DIR.value else weights.FOLDER
    names = weights.names(folder)
    for name in names:
        print(_described(weights.card(name, folder)))
    if names:
        print(f"cards: {files.printable(str(folder))}")
    elif WEIGHTS_DIR.value:
        fix = "name another folder; launch.calibrate --weights_out and export --to=safetensors write weights"
        raise ConfigError("there are no weights in the folder", str(folder), fix)
    else:
        print("this version ships no weights: train nets (python -m launch.train) and name their runs with --workdir")


def _described(card: weights.Card) -> str:
    """Return a line about the net, or the members of the ensemble, and an indented line for each known score."""
    if card.members:
        what = " + ".join(card.members)
    else:
        size = card.config["data"]["image_size"]
        what = f"{card.config['model']['name']}, width {card.config['model']['width']}, {size}x{size} pixels"
    about = [card.about[name] for name in ("training", "licence") if name in card.about]
    lines = [f"{card.name}: {', '.join([what, *map(str, about)])}"]
    for source, scores in card.about.get("scores", {}).items():
        known = [
            f"{label} {scores[key]:.3f}"
            for label, key in (
                ("age", "age_accuracy"),
                ("within one", "adjacent_accuracy"),
                ("gender", "gender_accuracy"),
            )
            if key in scores
        ]
        lines.append(f"  {source} (n = {scores.get('n', '?')}): {', '.join(known)}")
    return "\n".join(map(files.printable, lines))
