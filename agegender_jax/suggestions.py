"""Suggestions for the name that a user may have meant."""

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(name: str, known: Any) -> str:
    """Return a hint: the nearest known name, or all of them."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"did you mean {close[0]}?" if close else f"one of: {', '.join(known)}"


def nearest_field(field: str, known: Iterable[str]) -> str:
    """Return a hint: the dotted name that is most similar, as a whole and in its last part."""

    def likeness(name: str) -> float:
        pairs = ((field, name), (field.rpartition(".")[2], name.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    best = max(known, key=likeness)
    return f"did you mean {best}?" if likeness(best) > 0.75 else "see --help for all fields"
