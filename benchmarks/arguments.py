"""Arguments that several benchmark programs take."""

import argparse
from collections.abc import Collection

from agegender_jax.suggestions import nearest


def names(parser: argparse.ArgumentParser, option: str, text: str, known: Collection[str]) -> list[str]:
    """Return the names in a text, separated by commas; end the program with a message if one is not known."""
    chosen = text.split(",")
    for name in chosen:
        if name not in known:
            parser.error(f"{option}: unknown {name!r}: {nearest(name, known)}")
    return chosen
