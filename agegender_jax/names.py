"""Names that are used once."""

from collections.abc import Callable


def unique(name: str, is_taken: Callable[[str], bool]) -> str:
    """Return `name`, or the first of `name`-2, `name`-3 and so on that is not taken."""
    count, result = 1, name
    while is_taken(result):
        count += 1
        result = f"{name}-{count}"
    return result
