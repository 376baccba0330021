"""List the weights that this version ships.

agegender weights
"""

from agegender_jax import weights

COMPUTES = False


def main() -> None:
    for name in weights.names():
        card = weights.card(name)
        members = f", {' + '.join(card.members)}" if card.members else f", {card.config['model']['name']}"
        licence = card.about.get("licence", "unknown licence")
        print(f"{name}{members}, {licence}, trained on {card.about.get('training', 'see its card')}")
    if not weights.names():
        print("this version ships no weights: train nets (python -m launch.train) and name their runs with --workdir")
