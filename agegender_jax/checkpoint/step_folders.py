"""Add, remove and set aside step folders by renaming, so that a killed process leaves no partial folder."""

import shutil
from pathlib import Path

from agegender_jax import files
from agegender_jax.names import unique


def swap_in(growing: Path, final: Path) -> None:
    """Rename `growing` to `final`; an older save of the step is first moved aside, from where it can be restored."""
    aside = final.with_name(f"{final.name}.replaced")
    if final.exists():
        shutil.rmtree(aside, ignore_errors=True)
        final.rename(aside)
    growing.rename(final)
    files.sync(final.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove(folder: Path, step: int) -> None:
    """Remove a step."""
    leaving = folder / f"{step}.leaving"
    (folder / str(step)).rename(leaving)
    shutil.rmtree(leaving, ignore_errors=True)


def set_aside(folder: Path, step: int) -> Path:
    """Rename a step to `<step>.unreadable`, or with a number if there is one already; return the new path."""
    name = unique(f"{step}.unreadable", lambda name: (folder / name).exists())
    return (folder / str(step)).rename(folder / name)


def sweep(folder: Path) -> None:
    """Remove what a killed process left, and move back an older save that was moved aside."""
    for path in folder.iterdir():
        step, _, kind = path.name.partition(".")
        if not step.isdecimal() or kind not in ("saving", "replaced", "leaving") or not path.is_dir():
            continue
        if kind == "replaced" and not (folder / step).exists():
            path.rename(folder / step)
        else:
            shutil.rmtree(path, ignore_errors=True)
