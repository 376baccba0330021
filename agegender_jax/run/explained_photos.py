"""Read the photos to explain, files and folders that the user names, and resize them to the input of a net."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from agegender_jax import files
from agegender_jax.data import listing
from agegender_jax.data.decoding import DecodeError, decode, resize
from agegender_jax.errors import DataError
from agegender_jax.names import unique

LONGEST = 200  # bytes of a name, to leave room for suffixes


@dataclasses.dataclass(frozen=True)
class Photo:
    """A photo.

    Attributes:
      file: its path, starting with the argument that named it.
      name: unique, the file name without its suffix; a second one that is equal but for case gets -2.
      sized: size -> uint8 RGB [size, size, 3], cropped and resized as for training (data.decoding.resize).
    """

    file: str
    name: str
    sized: dict[int, np.ndarray]


def read(paths: Sequence[str], sizes: Iterable[int]) -> list[Photo]:
    """Read image files and the images in folders, sorted by path; hidden files are skipped.

    Args:
      paths: files and folders.
      sizes: sides in pixels to resize to.

    Raises:
      DataError: a file is missing, unreadable or not an image, or a folder has no images.
    """
    photos: list[Photo] = []
    names: set[str] = set()
    for path in paths:
        for entry, file in _entries(files.expand(path, "command line"), path):
            pixels = _pixels(entry, file)
            stem = os.fsencode(Path(file).stem)[:LONGEST].decode("utf-8", "replace")
            name = unique(stem, lambda name: name.casefold() in names)
            names.add(name.casefold())
            photos.append(Photo(file, name, {size: resize(pixels, size) for size in sizes}))
    return photos


def _entries(path: Path, argument: str) -> list[tuple[listing.Entry, str]]:
    if not path.exists():
        raise DataError("there is no such image", argument, "name image files, or folders of them")
    if not path.is_dir():
        real = path.resolve()
        return [(listing.file_entry(real.parent, real.name), argument)]
    try:
        entries = [entry for entry in listing.list_folder(path) if listing.is_image(entry.path)]
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", argument, "check its permissions") from None
    if not entries:
        raise DataError("there is no image in the folder", argument, "name image files, or folders of them")
    return [(entry, str(Path(argument) / entry.path)) for entry in sorted(entries, key=lambda entry: entry.path)]


def _pixels(entry: listing.Entry, file: str) -> np.ndarray:
    try:
        if entry.read is None:
            raise listing.Unreadable(entry.reason or "")
        return decode(entry.read())
    except (listing.Unreadable, DecodeError) as error:
        raise DataError(f"the image cannot be used: {error}", file, "repair the file, or leave it out") from None
