"""The pictures that a command line names: files, folders, globs, archives, Parquet files, and a list on stdin."""

import codecs
import contextlib
import dataclasses
import fnmatch
import functools
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from agegender_jax import files
from agegender_jax.data import archives, listing
from agegender_jax.data.decoding import MAX_PIXELS
from agegender_jax.data.listing import Entry, State, Unreadable
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.prediction.predictor import WithBoxes
from agegender_jax.run.pictures import parquet_pictures

TO_READ_IT = "name it as an argument to read it too, unpacked if it is in an archive"


@dataclasses.dataclass(frozen=True)
class PictureFile:
    """A file that may be a picture.

    Attributes:
      name: the path as it was given, or the path of its folder or archive followed by the path inside.
      entry: how to read it, or why not.
      archive: metadata of the archive that contains it, which one thread at a time reads; None if there is none.
      in_order: whether `source` reads it, as in archives, so that what neighbours share is unpacked once.
    """

    name: str
    entry: Entry
    archive: State | None = None
    in_order: bool = False

    @property
    def state(self) -> list[int] | None:
        """Numbers that change when the file, or its archive, changes; None if there is no regular file."""
        state = self.archive or self.entry.state
        return None if state is None else list(state)

    def source(self) -> bytes | Callable[[], bytes]:
        """Return the bytes of a member of an archive or a row of a Parquet file, or a function that returns a file's.

        The function raises Unreadable.
        """
        if self.entry.read is None:
            return functools.partial(_fail, self.entry.reason or "cannot be read")
        if self.archive is None and not self.in_order:
            return self.entry.read
        try:
            return self.entry.read()
        except Unreadable as error:
            return functools.partial(_fail, str(error))


@contextlib.contextmanager
def open_pictures(
    arguments: Sequence[str], left_out: list[tuple[str, str]] | None = None
) -> Iterator[list[PictureFile]]:
    """Yield the files that the arguments name, each once, in order and sorted within folders.

    Links in a folder are followed only if they stay inside it; a link that is itself an argument is followed.

    Args:
      arguments: files, folders (read recursively), globs with `**`, archives, Parquet files, and "-" for lines on
        stdin. A path from stdin or a column that cannot be read still gives a PictureFile.
      left_out: receives (path, reason) of what is not read: links and archives in folders and archives, and folders
        that a glob matches, unless it matches files in them.

    Raises:
      DataError: an argument names nothing.
    """
    if not arguments:
        raise ConfigError("no picture is named", "command line", "agegender predict PHOTO… or a folder, see --help")
    with contextlib.ExitStack() as stack:
        named: dict[str, PictureFile] = {}
        parts = [] if left_out is None else left_out
        for argument in arguments:
            for file in _of_stdin(stack) if argument == "-" else _of(argument, stack, parts):
                named.setdefault(file.name, file)
        yield list(named.values())


def sources(
    pictures: Iterable[PictureFile], boxes: dict[str, list[list[float]]] | None
) -> Iterator[tuple[str, bytes | Callable[[], bytes] | WithBoxes]]:
    """Yield (name, source) of each picture for `Predictor.pictures`.

    Args:
      boxes: boxes of the faces, by name of the picture; None to use the detector.
    """
    for picture in pictures:
        source = picture.source()
        yield picture.name, source if boxes is None else WithBoxes(source, boxes.get(picture.name, []))


def find(states: Mapping[str, list[int] | None], pictures: Iterable[PictureFile]) -> list[PictureFile]:
    """Return the pictures of these names and states, from `pictures` or from disk; those that are gone are left out."""
    named = {picture.name: picture for picture in pictures}
    files_found = (named.get(name) or _of_file(name) for name in states)
    return [file for file in files_found if file.state is not None and file.state == states[file.name]]


def left_out_of_folders(arguments: Iterable[str]) -> list[tuple[str, str]]:
    """Return (path, reason) of links and archives in the folders among the arguments, which are not read."""
    folders = [(argument, _path(argument)) for argument in arguments]
    return [
        (os.path.join(argument, part), reason)
        for argument, path in folders
        if os.path.isdir(path)
        for part, reason in listing.left_out(path)
    ]


def not_read(left_out: Sequence[tuple[str, str]], fix: str = TO_READ_IT) -> str:
    """Return a sentence about what `open_pictures` or `left_out_of_folders` names, ending with `fix`, or ""."""
    if not left_out:
        return ""
    listed = "; ".join(f"{path}: {reason}" for path, reason in left_out[:3])
    more = f"; and {len(left_out) - 3} more" if left_out[3:] else ""
    return f"not read: {listed}{more}; {fix}"


def check_outside(folder: Path, arguments: Sequence[str], drawn: str) -> None:
    """Raise ConfigError if pictures in --out would be read later: it is in a folder of pictures, or a glob matches.

    Args:
      drawn: name of the folder in --out that has pictures.
    """
    for argument in arguments:
        if argument == "-":
            continue
        path = _path(argument)
        base = Path(str(path).partition("**")[0] or ".")
        inside = base.is_dir() and folder.is_relative_to(base.resolve())
        if inside or (glob.has_magic(str(path)) and _matches(path.parent, folder / drawn)):
            raise ConfigError("--out is inside a folder of pictures", f"{folder} in {argument}", "name another --out")


def _matches(pattern: Path, folder: Path) -> bool:
    """Return whether the folders that a glob's parent matches include this one, which may not exist yet."""
    parts = pattern.parts
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    base = Path(*parts[:first]).resolve()
    if not folder.is_relative_to(base):
        return False
    below = folder.relative_to(base).parts
    return len(below) == len(parts) - first and all(map(fnmatch.fnmatchcase, below, parts[first:]))


def read_boxes(path: str) -> dict[str, list[list[float]]]:
    """Return the boxes of a JSON file, {name of a picture: [[x, y, width, height], …]}.

    Raises:
      ConfigError: it cannot be read, or contains something else.
    """
    try:
        content = json.loads(files.existing(path, "--boxes").read_bytes())
        boxes = {str(name): [[float(x) for x in box] for box in rows] for name, rows in content.items()}
        if all(_is_box(box) for rows in boxes.values() for box in rows):
            return boxes
        problem = "a box is not x, y, width and height in pixels"
    except (TypeError, AttributeError):
        problem = "it is not an object with a list of boxes for each picture"
    except (OSError, *files.MALFORMED) as error:
        problem = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0][:100]
    raise ConfigError(f"the boxes cannot be used: {problem}", path, '{"photo.jpg": [[x, y, width, height]]}')


def _is_box(values: Sequence[float]) -> bool:
    """Return whether numbers are x, y, width and height within the limits of the largest picture."""
    return len(values) == 4 and all(abs(value) <= MAX_PIXELS for value in values) and min(values[2:]) >= 1


def _path(argument: str) -> Path:
    """Return the path or glob of an argument; a leading `~` is the home folder unless files are so called."""
    if argument.startswith("~") and glob.has_magic(argument):
        if any(map(os.path.lexists, glob.iglob(argument, recursive=True))):  # it yields "nowhere/" for "nowhere/**"
            return Path(argument)
    return files.existing(argument, "command line")


def _of(argument: str, stack: contextlib.ExitStack, left_out: list[tuple[str, str]]) -> Iterable[PictureFile]:
    path = _path(argument)
    if os.path.isdir(path):
        left_out += left_out_of_folders([argument])
        return _of_folder(path, argument)
    if os.path.exists(path):
        return _of_one(path, argument, stack, left_out)
    matches = sorted(glob.glob(str(path), recursive=True)) if glob.has_magic(argument) else []
    folders = [match for match in matches if os.path.isdir(match)]
    matches = [match for match in matches if not os.path.isdir(match)]
    if not matches:
        what = "no file matches" if glob.has_magic(argument) else "there is no such picture"
        raise DataError(what, argument, "name picture files, folders, archives or globs")
    read = {parent for match in matches for parent in Path(match).parents}
    left_out += [(folder, "a folder that a glob matches") for folder in folders if Path(folder) not in read]
    return [file for match in matches for file in _of_one(Path(match), match, stack, left_out)]


def _of_one(
    path: Path, argument: str, stack: contextlib.ExitStack, left_out: list[tuple[str, str]]
) -> list[PictureFile]:
    """Return the pictures in an archive or a Parquet file, or else the file itself, whatever it is."""
    if path.is_file() and path.name.lower().endswith(archives.SUFFIXES):
        return _of_archive(path, argument, stack, left_out)
    if path.is_file() and path.name.lower().endswith(parquet_pictures.SUFFIX):
        return _of_parquet(path, argument)
    return [_of_file(argument)]


def _of_folder(path: Path, argument: str) -> list[PictureFile]:
    try:
        listed = listing.list_folder(path, skip_unreadable=True)
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror}", argument, "check its permissions") from None
    entries = [entry for entry in listed if not listing.is_csv(entry.path)]
    if not entries:
        if tables := parquet_pictures.in_folder(path):
            return [file for table in tables for file in _of_table(path, table)]
        raise DataError("there is no picture in the folder", argument, "name picture files, or folders of them")
    entries.sort(key=lambda entry: entry.path)
    return [PictureFile(os.path.join(argument, entry.path), entry) for entry in entries]


def _of_archive(
    path: Path, argument: str, stack: contextlib.ExitStack, left_out: list[tuple[str, str]]
) -> list[PictureFile]:
    listed = stack.enter_context(archives.open_archive(path))
    left_out += [(f"{argument}/{part}", reason) for part, reason in listing.left_out_entries(listed)]
    entries = [entry for entry in listed if listing.is_image(entry.path)]
    if not entries:
        raise DataError("there is no picture in the archive", argument, "name another")
    archive = State.of(path.stat())
    last = {entry.path: entry for entry in entries if entry.read}  # of members of the same name
    return [
        PictureFile(f"{argument}/{entry.path}", entry, archive)
        for entry in entries
        if last.get(entry.path, entry) is entry
    ]


def _of_table(folder: Path, table: Entry) -> list[PictureFile]:
    """Return the pictures of a Parquet file in a folder, or else itself with the reason why it is not read."""
    path = folder / table.path
    return [PictureFile(str(path), table)] if table.reason else _of_parquet(path, str(path))


def _of_parquet(path: Path, argument: str) -> list[PictureFile]:
    named = parquet_pictures.read_paths(path)
    if named is not None:
        return [_of_file(name) for name in named]
    rows = parquet_pictures.entries(path)
    return [PictureFile(f"{argument}/{entry.path}", entry, in_order=True) for entry in rows]


def _of_stdin(stack: contextlib.ExitStack) -> Iterator[PictureFile]:
    if sys.stdin is None:
        raise ConfigError("stdin is closed", "-", "name pictures, or send a list of paths to stdin")
    content = sys.stdin.buffer.read().removeprefix(codecs.BOM_UTF8)
    lines = [line.rstrip(b"\r") for line in content.split(b"\0" if b"\0" in content else b"\n")]
    if not any(lines):
        raise DataError("the list on stdin names no picture", "-", "send one path a line, or NUL bytes between them")
    yield from (_of_file(os.fsdecode(line)) for line in lines if line)


def _of_file(name: str) -> PictureFile:
    try:
        real = files.resolve(files.existing(name, "picture"), "picture")
    except (OSError, RuntimeError, ValueError, ConfigError) as error:
        return PictureFile(name, Entry(name, reason=f"cannot be read: {getattr(error, 'what', error)}"))
    return PictureFile(name, listing.file_entry(real.parent, real.name))


def _fail(reason: str) -> bytes:
    raise Unreadable(reason)
