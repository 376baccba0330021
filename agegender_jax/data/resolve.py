"""Resolve the text of `data.source` to folders, archives and CSVs on disk."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from agegender_jax import files
from agegender_jax.data import archives, cache, listing
from agegender_jax.data.cache import Progress
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.names import unique

SYNTHETIC = "synthetic"
SYNTHETIC_FACES = 3000
SYNTHETIC_SIZE = 96
SAMPLE_FACES = 16  # generated at each start, to detect changes of the generator
UTKFACE_URL = "https://susanqq.github.io/UTKFace/"


def cache_folder(cache_dir: str | os.PathLike | None = None) -> Path:
    """Return `cache_dir`, else `$XDG_CACHE_HOME/agegender_jax`, else `~/.cache/agegender_jax`.

    Raises:
      ConfigError: the home folder is unknown.
    """
    if cache_dir:
        return files.expand(cache_dir, "data.cache_dir")
    if base := os.environ.get("XDG_CACHE_HOME"):
        return files.expand(base, "XDG_CACHE_HOME") / "agegender_jax"
    return files.expand("~/.cache", "data.cache_dir") / "agegender_jax"


def resolve(spec: str, cache_dir: str | os.PathLike | None = None, progress: Progress | None = None) -> list[Path]:
    """Return the folder, archive or CSV of each part of `spec`; generate synthetic faces if necessary.

    A name without a suffix means a folder, or else an archive with any suffix.

    Raises:
      DataError: a part does not exist, has an unknown type, or is repeated.
      ConfigError: the text is not a source, or the cache cannot be written.
    """
    paths: list[Path] = []
    for part in parts(spec):
        num = _synthetic_num(part)
        path = _find(part) if num is None else _synthetic_folder(num, cache_folder(cache_dir), progress)
        if any(path.samefile(other) for other in paths):
            raise DataError("a source is named twice", f"{part} in data.source={spec}", "name it once")
        paths.append(path)
    return paths


def resolve_existing(spec: str) -> list[Path]:
    """Return the folder, archive or CSV of each part of `spec`, without synthetic faces. Raise as `resolve`."""
    return [_find(part) for part in parts(spec) if _synthetic_num(part) is None]


def check_outside(spec: str, path: Path, flag: str) -> None:
    """Raise ConfigError if an output folder is inside a folder of the source, whose images would include its figures.

    Args:
      path: resolved.
      flag: the flag or field that names it.
    """
    try:
        sources = resolve_existing(spec)
    except (ConfigError, DataError):  # an error where the source is read
        return
    for source in sources:
        if source.is_dir() and path.is_relative_to(source.resolve()):
            inside = path.relative_to(source.resolve())
            if not listing.is_hidden(inside.as_posix()):
                raise ConfigError(
                    f"{flag} is inside the data source: its figures would be read as images",
                    f"{path} in {source}",
                    f"choose a folder outside for {flag}",
                )


def source_names(spec: str) -> list[str]:
    """Return a short name of each part: that of the folder, or of the file without its suffix; a second equal name gets
    `-2`. Only synthetic faces are called `synthetic`.
    """
    names: list[str] = []
    for part in parts(spec):
        name = Path(os.path.abspath(part)).name
        suffix = next((s for s in (*archives.SUFFIXES, ".csv") if name.lower().endswith(s)), "")
        generated = _synthetic_num(part) is not None
        base = SYNTHETIC if generated else name.removesuffix(name[len(name) - len(suffix) :])
        reserved = () if generated else (SYNTHETIC,)
        names.append(unique(base or "source", (*names, *reserved).__contains__))
    return names


def source_name(spec: str) -> str:
    """Return the names of all parts, joined by `+`."""
    return "+".join(source_names(spec))


def parts(spec: str) -> list[str]:
    """Return the paths and names that a source consists of; raise ConfigError for an empty one."""
    names = files.split_names(spec)
    if not all(names):
        raise ConfigError("an empty data source", f"data.source={spec!a}", "--config.data.source=PATH")
    return names


def _find(part: str) -> Path:
    path = files.expand(part, "data.source")
    complete = path.name.lower().endswith((*archives.SUFFIXES, ".csv"))
    others = [] if complete or not path.name else [path.with_name(path.name + s) for s in archives.SUFFIXES]
    problem = "no such data source"
    try:
        if path.is_dir() or path.is_file() and complete:
            return path
        for other in others:
            if other.is_file():
                return other
        if path.exists():
            problem = "not a folder, archive or FairFace CSV"
    except (OSError, ValueError) as error:
        problem = f"data source cannot be reached ({getattr(error, 'strerror', error)})"
    also = " and the same with " + ", ".join(archives.SUFFIXES) if others else ""
    raise DataError(
        f"{problem}: {_quoted(part)}",
        f"looked for {_quoted(part)}{also}; found {_nearby(path)}",
        f"get UTKFace from {UTKFACE_URL} (--config.data.source=PATH), or use synthetic faces: "
        "--config.data.source=synthetic",
    )


def _nearby(path: Path) -> str:
    """Describe the nearest existing folder and the first names in it."""
    folder = next(parent for parent in Path(os.path.abspath(path)).parents if os.path.isdir(parent))
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError as error:
        return f"{_quoted(str(folder))}, which cannot be listed ({error.strerror})"
    some = ", ".join(map(_quoted, names[:4])) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"{_quoted(str(folder))} with {some}" if names else f"{_quoted(str(folder))}, which is empty"


def _quoted(name: str) -> str:
    """Return `name` in quotes, escaped if a terminal could not print it."""
    return name if name.isprintable() else ascii(name)


def is_synthetic(part: str) -> bool:
    """Return whether a part is generated, not read."""
    return part.partition(":")[0] == SYNTHETIC


def _synthetic_num(part: str) -> int | None:
    """Return N of `synthetic[:N]`, None for any other source."""
    word, colon, num = part.partition(":")
    if word != SYNTHETIC:
        return None
    if not colon:
        return SYNTHETIC_FACES
    if not (num.isascii() and num.isdigit() and len(num) < 10 and int(num) > 0):
        raise ConfigError("bad number of synthetic faces", f"data.source={part!a}", "for example synthetic:3000")
    return int(num)


def _synthetic_folder(num: int, cache_dir: Path, progress: Progress | None) -> Path:
    """Return the folder of `num` synthetic faces, generated once, and again if it or the generator has changed."""
    cache.writable(cache_dir)
    with cache.full_disk(cache_dir):
        with tempfile.TemporaryDirectory(prefix=".synthetic-", dir=cache_dir) as sample:
            folder = cache_dir / f"synthetic-{num}-{_generate(Path(sample), SAMPLE_FACES)}"
        written = folder.with_name(f"{folder.name}.digest")
        if not (folder.is_dir() and _is_whole(folder, num, written)):
            unfinished = cache.new_folder(cache_dir / ".synthetic")
            try:
                digest = _generate(unfinished, num, progress)
                if folder.is_dir():  # damaged
                    folder.rename(unfinished.with_name(f"{unfinished.name}-damaged"))
                _move(unfinished, folder)
                files.replace(written, digest)
            finally:
                for path in (unfinished, unfinished.with_name(f"{unfinished.name}-damaged")):
                    shutil.rmtree(path, ignore_errors=True)
    return folder


def _is_whole(folder: Path, num: int, written: Path) -> bool:
    """Return whether a folder has `num` faces, and those of the digest in `written`, which earlier versions lack."""
    try:
        return _digest(folder) == written.read_text()
    except FileNotFoundError:
        return sum(1 for _ in folder.iterdir()) == num
    except (OSError, ValueError):
        return False


def _generate(folder: Path, num: int, progress: Progress | None = None) -> str:
    """Generate `num` faces in `folder` and return a digest of their names and bytes."""
    from agegender_jax import synthetic

    synthetic.write_faces(folder, num, seed=0, size=SYNTHETIC_SIZE, progress=progress)
    return _digest(folder)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _move(unfinished: Path, folder: Path):
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster
            raise
