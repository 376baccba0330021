"""Read the photos to explain, files and folders that the user names, and prepare their faces for nets."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax import files
from agegender_jax.data import listing
from agegender_jax.data.decoding import DecodeError, decode
from agegender_jax.errors import DataError
from agegender_jax.names import unique
from agegender_jax.photos.face_chips import Chip

LONGEST = 200  # bytes of a name, to leave room for suffixes


@dataclasses.dataclass(frozen=True)
class Photo:
    """A face of a photo, or a photo that is one face.

    Attributes:
      fields: "file", its path, starting with the argument that named it; "name", unique, the file name without its
        suffix and, if faces were searched, the number of the face; then also "face" and "box".
      sized: size -> uint8 RGB [size, size, 3], prepared as for training.
    """

    fields: dict[str, Any]
    sized: dict[int, np.ndarray]

    @property
    def name(self) -> str:
        return self.fields["name"]


def read(paths: Sequence[str], find: Callable[[np.ndarray], list[Chip]]) -> tuple[list[Photo], list[str]]:
    """Return the faces in image files and in folders of images, and the files without faces; hidden ones are skipped.

    Args:
      paths: files and folders, whose images are sorted by path. Names that differ only in case get -2.
      find: returns the faces of uint8 RGB [H, W, 3].

    Raises:
      DataError: a file is missing, unreadable or not an image, a folder has no images, or there is no face at all.
    """
    photos: list[Photo] = []
    faceless: list[str] = []
    names: set[str] = set()
    for path in paths:
        for entry, file in _entries(files.existing(path, "command line"), path):
            chips = find(_pixels(entry, file))
            stem = unique(_stem(file), lambda name: name.casefold() in names)
            names.add(stem.casefold())
            faceless += [] if chips else [file]
            for i, chip in enumerate(chips):
                searched = chip.score is not None
                name = unique(f"{stem}-face{i}", lambda name: name.casefold() in names) if searched else stem
                names.add(name.casefold())
                fields = {"file": file, "name": name} | ({"face": i, "box": chip.box} if searched else {})
                photos.append(Photo(fields, chip.sized))
    if not photos:
        raise DataError("no face was found", faceless[0], "--detector=none takes each picture as one face")
    return photos, faceless


def _stem(file: str) -> str:
    """Return the file name without its suffix, as UTF-8 of at most LONGEST bytes; bad bytes are replaced."""
    text = os.fsencode(Path(file).stem).decode("utf-8", "replace")  # a bad byte becomes a character of three bytes
    return text.encode()[:LONGEST].decode("utf-8", "ignore")


def _entries(path: Path, argument: str) -> list[tuple[listing.Entry, str]]:
    if not path.exists():
        raise DataError("there is no such image", argument, "name image files, or folders of them")
    if not path.is_dir():
        real = path.resolve()
        return [(listing.file_entry(real.parent, real.name), argument)]
    try:
        entries = [entry for entry in listing.list_folder(path) if listing.is_image(entry.path)]
    except OSError as error:
        where = str(error.filename or argument)
        raise DataError(f"a folder cannot be read: {error.strerror}", where, "check its permissions") from None
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
