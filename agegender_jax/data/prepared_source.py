"""A prepared source: the labels of its images in memory, the images on disk."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax.data import cache, checksums, sources
from agegender_jax.data.cache import Progress
from agegender_jax.data.decoding import decode, resize
from agegender_jax.data.parallel_map import parallel_map
from agegender_jax.errors import DataError


@dataclasses.dataclass(frozen=True)
class Prepared:
    """All N usable faces of a source, in a shuffled order that depends only on the files.

    Attributes:
      name: of the source. fingerprint: hex, of its files' names, bytes and CSV labels. folder: of the prepared data.
      records: random access to the encoded images.
      file, age_text, race_text, sha256, content: [N] str; sha256 is of the decoded RGB pixels, content also of their
        shape: equal for equal pictures.
      age_years: int32 [N], -1 where only a group is known.
      age: int32 [N, 2], first and last correct bucket. gender, race, group, mirrored: int32 [N], see `splits`.
      dhash: uint8 [N, 64]. thumbnail: uint8 [N, 144], see `near_duplicates`.
      bad: (file, reason) of every unusable file.
      left_out: (path, reason) of links to folders and of archives in the source, which are not read, sorted.
    """

    name: str
    fingerprint: str
    folder: Path
    records: Any
    file: np.ndarray
    age_text: np.ndarray
    race_text: np.ndarray
    sha256: np.ndarray
    content: np.ndarray
    age_years: np.ndarray
    age: np.ndarray
    gender: np.ndarray
    race: np.ndarray
    group: np.ndarray
    mirrored: np.ndarray
    dhash: np.ndarray
    thumbnail: np.ndarray
    bad: list[tuple[str, str]]
    left_out: list[tuple[str, str]]
    _arrays: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def warning(self) -> str:
        """Return `sources.left_out_warning` of this source."""
        return sources.left_out_warning(self.left_out)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image's file.

        Raises:
          DataError: the record cannot be read any more.
        """
        try:
            return self.records[int(index)]["image"]
        except Exception as error:  # array_record raises many kinds
            raise DataError(
                f"a prepared record cannot be read: {str(error).splitlines()[0] if str(error) else error!r}",
                str(self.folder),
                "run the command again; it prepares missing or damaged data again",
            ) from error

    def images(self, size: int, progress: Progress | None = None) -> np.ndarray:
        """Return the images at `size` pixels, memory-mapped uint8 [N, size, size, 3]; created at the first call.

        The array stays readable when its file is removed.

        Raises:
          DataError: a record cannot be read any more, or the folder of prepared data is gone.
          OSError: the disk is full.
        """
        if size not in self._arrays:
            name, shape = f"images_{size}.npy", (len(self.file), size, size, 3)
            array = _load(self.folder / name, shape)
            self._arrays[size] = self._make(name, shape, progress) if array is None else array
        return self._arrays[size]

    def _make(self, name: str, shape: tuple[int, ...], progress: Progress | None) -> np.ndarray:
        path = self._own_folder() / name
        try:
            with cache.locked(self.folder, progress) as alone:
                if (array := _load(path, shape)) is not None:  # another process was faster
                    return array
                if alone:
                    cache.remove_leftovers(path)
                out, temporary = cache.new_array(path, shape)

                def fill(i: int) -> None:
                    out[i] = resize(decode(self.encoded(i)), shape[1])

                try:
                    for i, _ in enumerate(parallel_map(fill, range(shape[0]))):
                        if progress:
                            progress(i + 1, shape[0], f"resizing to {shape[1]} pixels")
                    cache.replace_array(out, temporary, path)
                    checksums.write_of(path)
                finally:
                    temporary.unlink(missing_ok=True)
            return np.load(path, mmap_mode="r")
        except OSError as error:
            if error.errno in cache.FULL:
                raise
            raise cache.unreadable(self.folder, error) from error

    def _own_folder(self) -> Path:
        """Return the folder for new arrays, which is a different one if the prepared data belong to another user."""
        if os.access(self.folder, os.W_OK) or not self.folder.exists():
            return self.folder
        own = self.folder.with_name(f"{self.folder.name}-user{os.getuid()}")
        own.mkdir(exist_ok=True)
        return own


def _load(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the memory-mapped array in `path`; None unless it is undamaged and has this shape."""
    if not checksums.is_good(path):
        return None
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError):
        return None
    return array if array.shape == shape and array.dtype == np.uint8 else None
