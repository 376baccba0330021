"""The audit job: a source looked through for duplicates, contradicting labels, leaks, and odd names and pictures."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from agegender_jax import files
from agegender_jax.data import audit, image_stats, resolve, sources, splits
from agegender_jax.data.prepare import prepare
from agegender_jax.data.prepared import Prepared
from agegender_jax.errors import ConfigError
from agegender_jax.report import audit as report
from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.members import read_config
from agegender_jax.run.workdir import Workdir, make_out, write_csv, write_json


def inspect(
    source: str | None,
    *,
    out: str | None,
    workdirs: Sequence[str],
    split_seed: int,
    cache_dir: str | None,
    command: Sequence[str],
) -> dict:
    """Audits `source`, writes audit.json, audit.html and exclude.csv to `out`, returns what audit.json holds.

    Args:
      out: folder; audits/<name of the source> if None.
      workdirs: runs whose splits are checked, and compared with the source.
      split_seed: of the split that is checked besides.

    Raises:
      ConfigError, DataError, CheckpointError: as the exit codes say. Findings are no error.
    """
    if not source:
        raise ConfigError("--source is missing", "--source", "name the images to audit, for example crop_part1.tar")
    places = [Workdir(path) for path in workdirs]
    seeds = [read_config(place)["data"]["split_seed"] for place in places]
    folder = files.expand(out or f"audits/{sources.source_name(source)}", "--out").resolve()
    resolve.check_outside(source, folder, "--out")
    make_out(folder)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        faces = prepare(source, cache_dir, 1.0, progress.prepare, functools.partial(_list_bad, folder))
        if warning := faces.warning():
            progress.warn(warning)
        pairs = audit.find_pairs(faces.content, faces.dhash)
        leakage = {
            "split": _split(faces, pairs, split_seed),
            "runs": [_run(place, faces, seed) for place, seed in zip(places, seeds, strict=True)],
        }
        seen = image_stats.look(faces, progress.prepare)
        found = report.findings(faces, pairs, seen, leakage, list(command))
        _write(folder, faces, found)
        write_csv(folder / "exclude.csv", ("file", "reason"), audit.contradictions(faces, pairs.all()))
        progress.show(_table(found))
        progress.note(f"audit: {folder / 'audit.html'}")
        return found


def _list_bad(folder: Path, bad: list[tuple[str, str]]) -> str:
    """Where no image is usable there is no audit, but a list."""
    write_csv(folder / "bad_images.csv", ("file", "reason"), bad)
    return str(folder / "bad_images.csv")


def _split(faces: Prepared, pairs: audit.Pairs, seed: int) -> dict:
    """The split that training with this data.split_seed would use, and what one at random would leak."""
    assignment = splits.assign(faces.group, faces.content, seed)
    return {
        "split_seed": seed,
        **_across(assignment, pairs),
        "random": {
            "exact": audit.random_split(pairs.exact, len(assignment)),
            "all": audit.random_split(pairs.all(), len(assignment)),
        },
    }


def _run(place: Workdir, faces: Prepared, seed: int) -> dict:
    """A run's own split, and how many images of the source it has seen, as launch.evaluate would refuse them."""
    images = leaks.read_splits(place)
    own = Dataset(faces, splits.assign(faces.group, faces.content, seed))
    seen = {
        name: {"n": len(own.indices(name)), "seen": len(leaks.find(place, own, name))}
        for name in ("train", "val", "test")
    }
    pairs = audit.find_pairs(images.sha256, images.dhash)
    return {"workdir": place.given, "split_seed": seed, **_across(images.split, pairs), "seen": seen}


def _across(assignment: np.ndarray, pairs: audit.Pairs) -> dict:
    return {
        "sizes": {name: int((assignment == name).sum()) for name in ("train", "val", "test")},
        "across": {
            "exact": audit.pairs_across(pairs.exact, assignment),
            "near": audit.pairs_across(pairs.near, assignment),
        },
    }


def _write(folder: Path, faces: Prepared, found: dict) -> None:
    """audit.html and last audit.json."""
    place = {file: i for i, file in enumerate(faces.file.tolist())}
    whole = Dataset(faces, np.full(len(place), "train"))
    page = report.page(found, report.draw(faces, found), lambda file: whole.picture(place[file]))
    files.replace(folder / "audit.html", page)
    write_json(folder / "audit.json", found)


def _table(found: dict) -> Table:
    shown = Table(title=f"audit of {found['source']['name']}", show_header=False)
    shown.add_column(overflow="fold")
    shown.add_column(overflow="fold")
    for row in report.summary(found):
        shown.add_row(*row)
    return shown
