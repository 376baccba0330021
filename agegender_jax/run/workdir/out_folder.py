"""The folders that --out names: where results may be written, and which earlier results may be replaced."""

import contextlib
import fcntl
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files, names
from agegender_jax.errors import ConfigError
from agegender_jax.run.workdir.folder import write_json
from agegender_jax.run.workdir.lock import LOCK

SETTINGS = {"predict.json", "align.json"}  # of the commands that continue earlier results, and share other names


def make_out(folder: Path) -> None:
    """Make the folder that --out names.

    Raises:
      ConfigError: it cannot be written, or it is in the folder of a run, whose results it could replace.
    """
    try:
        runs = [path for path in (folder, *folder.parents) if _is_run(path)]
        if runs or (folder / LOCK).exists():
            raise ConfigError(
                f"--out must not lie in the folder of a run, whose results it could replace: {(runs or [folder])[0]}",
                f"--out={folder}",
                "name a folder elsewhere, such as reports/NAME",
            )
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"--out cannot be used: {error.strerror}", str(folder), "name a folder that can be written"
        ) from None


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder of --out; raise ConfigError if one does.

    On a file system without locks, nothing prevents this; files are still replaced atomically.
    """
    with open(folder / ".lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                "another process writes to --out", str(folder), "wait for it, or name another --out"
            ) from None
        except OSError as error:
            if error.errno not in files.NO_LOCKS:
                raise
        yield


def check_replaces(
    file: Path, is_same: Callable[[dict], bool], describe: Callable[[dict], str], flag: str = "--out"
) -> None:
    """Raise ConfigError if writing `file` would replace results of something else.

    The same command may be repeated with the same folder, even with other options. A damaged file may be replaced.

    Args:
      file: the JSON file of the results, which may be missing.
      is_same: returns whether earlier results are for the same things as the new ones, for example runs and images.
      describe: returns a description of earlier results for the message.
      flag: the option that named the folder.
    """
    try:
        earlier = json.loads(file.read_bytes())
        if is_same(earlier):
            return
        description = describe(earlier)
    except (OSError, RuntimeError, *files.MALFORMED):
        return
    raise ConfigError(
        f"{flag} holds other results: {description}", str(file.parent), f"name another {flag}, or delete that folder"
    )


def check_unused(folder: Path, settings: str, patterns: Sequence[str]) -> None:
    """Raise ConfigError if the folder holds files that a command would replace, but none of the command's settings.

    Args:
      settings: name of the file that the command writes first.
      patterns: of the files that it writes, see `Path.glob`.
    """
    if (folder / settings).exists():
        return
    for found in itertools.chain.from_iterable(folder.glob(pattern) for pattern in patterns):
        raise ConfigError(
            "--out holds a file that this command did not write, and could replace",
            str(found),
            f"name another folder, such as --out={_unused(folder)}, or move that file",
        )


def check_unchanged(folder: Path, written: Mapping[str, str], earlier: Mapping[str, str]) -> None:
    """Raise ConfigError if a file would replace one that is not as an earlier call wrote it.

    Args:
      written: names of the new files, with their SHA-256.
      earlier: the same of the earlier call; {} without one.
    """
    for name, digest in written.items():
        path = folder / name
        if path.exists() and files.sha256(path) not in (digest, earlier.get(name)):
            raise ConfigError(
                f"--out holds a file {name} that this command did not write, or that was changed since",
                str(path),
                "name another --out, or move that file",
            )


def keep_settings(
    path: Path, settings: dict[str, Any], of: str, free: Sequence[str] = (), added: Sequence[str] = ()
) -> bool:
    """Write the settings of a call to `path`, and return whether an earlier call had others of those in `free`.

    In this case those in `free` are not written: the caller adapts the earlier results, and then writes all settings.

    Args:
      of: what the folder contains, for the message, such as "answers".
      free: names of settings that may differ.
      added: names of settings that earlier versions did not write, and that are taken to be the same.

    Raises:
      ConfigError: an earlier call had other settings, or was one of another command.
    """
    fix = f"name another folder, such as --out={_unused(path.parent)}, or delete that one"
    for name in SETTINGS - {path.name}:
        if (path.parent / name).exists():
            raise ConfigError("--out holds the results of another command", str(path.with_name(name)), fix)
    settings = json.loads(files.to_json(settings))
    fixed = {name: value for name, value in settings.items() if name not in free}
    if path.exists():
        try:
            earlier = json.loads(path.read_bytes())
        except files.MALFORMED:
            earlier = None
        if not isinstance(earlier, dict):
            raise ConfigError(f"{path.name} in --out is damaged", str(path), fix)
        earlier = {name: settings[name] for name in added if name in settings} | earlier
        differ = [name for name in {**settings, **earlier} if earlier.get(name) != settings.get(name)]
        if refused := [name for name in differ if name not in free]:
            raise ConfigError(f"--out holds {of} from another call: {', '.join(refused)} differ", str(path.parent), fix)
        if any(name in settings for name in differ):
            write_json(path, fixed)
            return True
    write_json(path, settings)
    return False


def workdirs(models: list[dict]) -> list[Path]:
    """Return the folders of the runs in a list of models from a results file; an ensemble has none."""
    return [Path(model["workdir"]).expanduser().resolve() for model in models if "workdir" in model]


def origins(models: list[dict]) -> list[Path | str]:
    """Return, for each of a list of models from a results file, the folder of its run or the name of its weights."""
    return [name for model in models for name in workdirs([model]) or [model["weights"]]]


def _unused(folder: Path) -> str:
    """Return the shorter path of a folder next to this one that does not exist."""
    path = folder.with_name(names.unique(folder.name, lambda name: folder.with_name(name).exists()))
    return min(str(path), os.path.relpath(path), key=len)


def _is_run(folder: Path) -> bool:
    return (folder / "config.json").is_file() and (folder / "run.json").is_file()
