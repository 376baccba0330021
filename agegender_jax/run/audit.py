"""The audit command: find duplicates, contradicting labels, leaks, and unusual names and images in a source."""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from agegender_jax import files
from agegender_jax.data import image_stats, resolve, source_problems, sources, split_exceptions, splits
from agegender_jax.data.prepare import prepare
from agegender_jax.data.prepared_source import Prepared
from agegender_jax.errors import ConfigError
from agegender_jax.report import audit as report
from agegender_jax.run import leaks, recorded_split
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.scoring.named_runs import read_config
from agegender_jax.run.workdir import (
    Workdir,
    check_replaces,
    check_unchanged,
    csv_text,
    make_out,
    write_csv,
    write_json,
)


def inspect(
    source: str | None,
    *,
    out: str | None,
    workdirs: Sequence[str],
    split_seed: int,
    cache_dir: str | None,
    command: Sequence[str],
) -> dict:
    """Audit `source`, write audit.json, audit.html and two CSVs to `out`, and return the value of audit.json.

    splits.csv has the split of `split_seed` and the groups of near-duplicates, exclude.csv the contradicting copies.

    Args:
      out: folder; audits/<name of the source> if None.
      workdirs: runs whose splits are checked and compared with the source.
      split_seed: seed of the split of the source that is checked.

    Raises:
      ConfigError, DataError, CheckpointError: an input cannot be used. Findings are not errors.
    """
    if not source:
        raise ConfigError("--source is missing", "--source", "name the images to audit, for example crop_part1.tar")
    runs = [Workdir(path) for path in workdirs]
    configs = [read_config(run) for run in runs]
    folder = files.resolve(out or f"audits/{sources.source_name(source)}", "--out")
    resolve.check_outside(source, folder, "--out")
    make_out(folder)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        faces = prepare(source, cache_dir, 1.0, progress.prepare, functools.partial(_list_bad, folder))
        check_out(folder, faces.fingerprint, command)
        if warning := faces.warning():
            progress.warn(warning)
        pairs = source_problems.find_pairs(faces.content, faces.dhash, faces.thumbnail)
        assignment = _assigned(faces, split_seed)
        leakage = {
            "split": _split(assignment, pairs, split_seed),
            "runs": [_run(run, config, faces) for run, config in zip(runs, configs, strict=True)],
        }
        tables = {
            "splits.csv": _splits(faces, assignment),
            "exclude.csv": csv_text(("file", "reason"), source_problems.contradictions(faces, pairs.all())),
        }
        written = _check_tables(folder, tables)
        stats = image_stats.measure(faces, progress.prepare)
        findings = report.findings(faces, pairs, stats, leakage, list(command)) | {"written": written}
        for name, text in tables.items():
            files.replace(folder / name, text)
        _write(folder, faces, findings)
        progress.show(_table(findings))
        progress.note(f"audit: {folder / 'audit.html'}")
        return findings


def check_out(folder: Path, fingerprint: str, command: Sequence[str]) -> None:
    """Raise ConfigError if the folder has the audit of another source; the same source may have changed."""
    check_replaces(
        folder / "audit.json",
        is_same=lambda earlier: (
            earlier["source"]["fingerprint"] == fingerprint or earlier["command"] == [*command] != []
        ),
        describe=lambda earlier: (
            f"the audit of {earlier['source']['name']}, fingerprint {earlier['source']['fingerprint'][:16]}"
        ),
    )


def _list_bad(folder: Path, bad: list[tuple[str, str]]) -> str:
    """Write the list of unusable files of a source without a usable image, and return its path."""
    write_csv(folder / "bad_images.csv", ("file", "reason"), bad)
    return str(folder / "bad_images.csv")


def _assigned(faces: Prepared, seed: int) -> np.ndarray:
    """Return the split that a run with this `data.split_seed` has by default, str [N]."""
    return split_exceptions.assign(np.ones(len(faces.file), bool), faces, seed)


def _split(assignment: np.ndarray, pairs: source_problems.Pairs, seed: int) -> dict:
    """Return the leakage of the split with this data.split_seed, and that of a random split."""
    return {
        "split_seed": seed,
        **_across(assignment, pairs),
        "random": {
            "exact": source_problems.random_split(pairs.exact, len(assignment)),
            "all": source_problems.random_split(pairs.all(), len(assignment)),
        },
    }


def _run(run: Workdir, config: dict, faces: Prepared) -> dict:
    """Return the leakage of a run's split, and how many images of the source the run has seen."""
    images, seed = leaks.read_splits(run), config["data"]["split_seed"]
    recorded = recorded_split.read(run, config, faces)
    if recorded is None:
        own = Dataset(faces, _assigned(faces, seed))
    else:
        own, seed = Dataset(faces, recorded), None
    seen = {
        name: {"n": len(own.indices(name)), "seen": len(leaks.find(run, own, name))}
        for name in ("train", "val", "test")
    }
    pairs = source_problems.find_pairs(images.sha256, images.dhash, images.thumbnail)
    return {"workdir": run.argument, "split_seed": seed, **_across(images.split, pairs), "seen": seen}


def _across(assignment: np.ndarray, pairs: source_problems.Pairs) -> dict:
    return {
        "sizes": {name: int((assignment == name).sum()) for name in ("train", "val", "test")},
        "across": {
            "exact": source_problems.pairs_across(pairs.exact, assignment),
            "near": source_problems.pairs_across(pairs.near, assignment),
        },
    }


def _write(folder: Path, faces: Prepared, findings: dict) -> None:
    """Write audit.html and, last, audit.json."""
    index = {file: i for i, file in enumerate(faces.file.tolist())}
    whole = Dataset(faces, np.full(len(index), "train"))
    page = report.page(findings, report.draw(faces, findings), lambda file: whole.picture(index[file]))
    files.replace(folder / "audit.html", page)
    write_json(folder / "audit.json", findings)


def _check_tables(folder: Path, tables: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of tables by name, for audit.json.

    Raises:
      ConfigError: one would replace a file that is not as the audit in the folder wrote it.
    """
    contents = {name: text.encode("utf-8", "surrogateescape") for name, text in tables.items()}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    try:
        earlier = json.loads((folder / "audit.json").read_bytes()).get("written")
    except (OSError, *files.MALFORMED):
        earlier = {}
    if earlier is not None:  # as in an audit of version 0.2.0
        check_unchanged(folder, digests, earlier)
    return digests


def _splits(faces: Prepared, assignment: np.ndarray) -> str:
    """Return splits.csv, with the first columns of a run's."""
    groups = splits.group_ids(faces.group, faces.sha256)
    rows = sorted(zip(faces.file, assignment, groups, faces.sha256, strict=True))
    return csv_text(("file", "split", "group", "sha256"), rows)


def _table(findings: dict) -> Table:
    table = Table(title=f"audit of {findings['source']['name']}", show_header=False)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for row in report.summary(findings):
        table.add_row(*row)
    return table
