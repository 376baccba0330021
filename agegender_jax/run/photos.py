"""Image files that a user names, single or by their folder, as a net takes them."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agegender_jax import files
from agegender_jax.data import listing
from agegender_jax.data.decoding import DecodeError, decode, resize
from agegender_jax.errors import DataError

LONGEST = 200  # bytes of a name, so that others can be made from it


@dataclasses.dataclass(frozen=True)
class Photo:
    """A picture.

    Attributes:
      file: its path as given, below the folder that was given.
      name: short, different for each: the file's without suffix, a second equal one with -2 behind it.
      sized: size -> uint8 RGB [size, size, 3], cut and scaled as for training (data.decoding.resize).
    """

    file: str
    name: str
    sized: dict[int, np.ndarray]


def read(paths: Sequence[str], sizes: Iterable[int]) -> list[Photo]:
    """The files, and the images in the folders among `paths` in the order of their names; hidden ones are skipped.

    Raises:
      DataError: one that does not exist or cannot be read or decoded, or a folder without images.
    """
    photos: list[Photo] = []
    names: set[str] = set()
    for path in paths:
        for entry, shown in _entries(files.expand(path, "command line"), path):
            pixels = _pixels(entry, shown)
            name = _unlike(os.fsencode(Path(shown).stem)[:LONGEST].decode("utf-8", "replace"), names)
            names.add(name.casefold())
            photos.append(Photo(shown, name, {size: resize(pixels, size) for size in sizes}))
    return photos


def _entries(path: Path, given: str) -> list[tuple[listing.Entry, str]]:
    if not path.exists():
        raise DataError("there is no such image", given, "name image files, or folders of them")
    if not path.is_dir():
        real = path.resolve()
        return [(listing.file_entry(real.parent, real.name), given)]
    try:
        found = [entry for entry in listing.list_folder(path) if listing.is_image(entry.path)]
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", given, "name one that can be") from None
    if not found:
        raise DataError("there is no image in the folder", given, "name image files, or folders of them")
    return [(entry, str(Path(given) / entry.path)) for entry in sorted(found, key=lambda entry: entry.path)]


def _pixels(entry: listing.Entry, shown: str) -> np.ndarray:
    try:
        if entry.reason:
            raise listing.Unreadable(entry.reason)
        return decode(entry.read())
    except (listing.Unreadable, DecodeError) as error:
        raise DataError(f"the image cannot be used: {error}", shown, "mend the file, or leave it out") from None


def _unlike(name: str, taken: set[str]) -> str:
    """`name`, with -2 and so on where it is taken, by one that differs in case only too."""
    count, told = 1, name
    while told.casefold() in taken:
        count += 1
        told = f"{name}-{count}"
    return told
