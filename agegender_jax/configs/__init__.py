"""The configs that come with the library: `--config=ran:92` names one and its variants from any folder."""

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all configs, sorted."""
    return sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def file(name: str) -> str:
    """Return the file of the config called `name`; return any other text, for example a path, unchanged."""
    return str(FOLDER / f"{name}.py") if name in names() else name
