"""The folder of a run: its lock and its files."""

import csv
import io
import itertools
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import config as config_lib
from agegender_jax import csv_cells, files
from agegender_jax.data import splits
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.run.workdir import lock, provenance


class Workdir:
    """The folder of one run. As a context manager, it creates and locks the folder.

    The lock ends with the process in any case; see `lock.take` for file systems without locks.

    Raises:
      ConfigError: on entry, if the folder cannot be created or written, or if another process has locked it.
    """

    def __init__(self, path: str | Path):
        self.argument = str(path)
        self.path = files.resolve(path, "--workdir")
        self.config = self.path / "config.json"
        self.run = self.path / "run.json"
        self.splits = self.path / "splits.csv"
        self.inherited = self.path / "inherited.csv"
        self.teachers = self.path / "teachers.json"
        self.bad_images = self.path / "bad_images.csv"
        self.metrics = self.path / "metrics.jsonl"
        self.nonfinite = self.path / "nonfinite.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.calibration = self.path / "calibration.json"
        self.results = self.path / "results.json"
        self.predictions = self.path / "predictions.csv"
        self.report = self.path / "report.html"
        self.card = self.path / "MODEL_CARD.md"
        self._lock: io.FileIO | None = None
        self._state: os.stat_result | None = None  # of the locked folder

    def __enter__(self) -> "Workdir":
        try:
            str(self.path).encode()
        except UnicodeEncodeError:
            raise ConfigError(
                "the workdir's path is not UTF-8, which Orbax needs", str(self.path), "use another --workdir"
            ) from None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = lock.take(self.path)
            self._state = self.path.stat()
            self._sweep()
        except OSError as error:
            raise self._unusable(error) from None
        return self

    def __exit__(self, *error) -> None:
        if self._lock is not None:
            lock.release(self._lock)
            self._lock = None

    def check_in_place(self) -> None:
        """Check that the path still leads to the locked folder, not to one that a save created after it was moved.

        Raises:
          CheckpointError: it does not.
        """
        if self._state is None:  # in other processes than the main one
            return
        if not self.path.exists() or not os.path.samestat(self.path.stat(), self._state):
            raise CheckpointError(
                "the workdir was moved or removed during the run",
                str(self.path),
                "put it back in place of what is there now, and repeat the command",
            )

    def read_config(self) -> dict | None:
        """Return the config that this run began with, as plain dicts; None before its first start."""
        return self._read(self.config)

    def read_run(self) -> dict | None:
        """Return run.json; None before the first start."""
        return self._read(self.run)

    def read_calibration(self) -> dict | None:
        """Return calibration.json; None if no temperature was fitted."""
        return self._read(self.calibration)

    def read_results(self) -> dict | None:
        """Return results.json; None before the end of the run."""
        return self._read(self.results)

    def is_tested(self) -> bool:
        """Return whether the best checkpoint has been calibrated and tested."""
        return self.results.exists() and self.calibration.exists()

    def write_start(
        self,
        config: Any,
        command: Sequence[str],
        prepared: Any,
        assignment: Sequence[str],
        note: Callable[[str], None],
    ) -> None:
        """Write what is known before the first step: config.json, run.json, splits.csv and bad_images.csv."""
        self.write_config(config_lib.to_dict(config))
        self.write_run(command, prepared.name, prepared.fingerprint)
        self.write_faces(prepared, assignment)
        if bad := len(prepared.bad):
            note(f"{bad} of {bad + len(assignment)} files are unusable: {self.bad_images} lists them")
        if warning := prepared.warning():
            note(f"WARNING: {warning}")

    def restore_start(self, config: Any, command: Sequence[str], prepared: Any, assignment: Sequence[str]) -> None:
        """Write files of `write_start` that were removed during the run again."""
        if not self.config.exists():
            self.write_config(config_lib.to_dict(config))
        if not self.run.exists():
            self.write_run(command, prepared.name, prepared.fingerprint)
        if not self.splits.exists():
            self.write_faces(prepared, assignment)

    def write_config(self, config: dict) -> None:
        write_json(self.config, config)

    def write_run(self, command: Sequence[str], source: str, fingerprint: str) -> None:
        """Write run.json: this start's command, versions, devices and git revision; `starts` lists all starts."""
        start = provenance.this_start(command)
        earlier = (self.read_run() or {}).get("starts", [])
        fields = {"source": {"name": source, "fingerprint": fingerprint}, "starts": [*earlier, start]}
        write_json(self.run, start | fields | {"config_file": self._config_file()})

    def is_original(self) -> bool:
        """Return whether training by this user wrote config.json in this place, not copied or unpacked."""
        file = self._config_file()
        return file is not None and file == (self.read_run() or {}).get("config_file") and file[0] == os.getuid()

    def _config_file(self) -> list[int] | None:
        """Return the owner, the inode and the change time of config.json, which cannot be chosen for a copy."""
        try:
            state = self.config.stat()
        except OSError:
            return None
        return [state.st_uid, state.st_ino, state.st_ctime_ns]

    def write_faces(self, prepared: Any, assignment: Sequence[str]) -> None:
        """Write splits.csv and bad_images.csv from a prepared source and the splits of its images."""
        groups = splits.group_ids(prepared.group, prepared.sha256)
        hashes, pixels = ([row.tobytes().hex() for row in rows] for rows in (prepared.dhash, prepared.thumbnail))
        rows = sorted(zip(prepared.file, assignment, groups, prepared.sha256, hashes, pixels, strict=True))
        write_csv(self.splits, ("file", "split", "group", "sha256", "dhash", "thumbnail"), rows)
        write_csv(self.bad_images, ("file", "reason"), prepared.bad)

    def _sweep(self) -> None:
        """Remove partial files that killed processes left."""
        patterns = (".*.tmp", "figures/.*.tmp", "checkpoints/*/.*.tmp")
        for path in itertools.chain.from_iterable(self.path.glob(pattern) for pattern in patterns):
            match = files.TEMPORARY.fullmatch(path.name)
            if match and not lock.is_running(int(match["pid"])):
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict | None:
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, *files.MALFORMED):
            content = None
        if isinstance(content, dict):
            return content
        raise ConfigError(
            f"{path.name} of the workdir cannot be read", str(path), "restore the file, or use another --workdir"
        )

    def _unusable(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the workdir cannot be used: {error.strerror}",
            str(error.filename or self.path),
            "use another --workdir: a folder, new or your own, that can be written",
        )


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, atomically; NaN becomes null."""
    files.replace(path, files.to_json(value, indent=1) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    """Write UTF-8 CSV, atomically. Undecodable bytes of names are written unchanged."""
    files.replace(path, csv_text(header, rows))


def csv_text(header: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Return CSV. Text that a spreadsheet would evaluate gets an apostrophe, see `csv_cells`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([csv_cells.guard(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return text.getvalue()
