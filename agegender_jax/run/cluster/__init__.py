"""Predictions by several machines or devices, through Ray."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

from agegender_jax import extras, files
from agegender_jax.errors import ConfigError
from agegender_jax.run.cluster import connection, engine
from agegender_jax.run.host.signals import StopFlag
from agegender_jax.run.pictures.picture_files import PictureFile

GRACE = 20.0  # seconds for a stopped call to end its cluster


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A Ray cluster that predicts for the faces of pictures.

    Attributes:
      address: HOST:PORT; None for processes of this machine. Pictures, runs and weights must have the same paths on all
        machines.
      workers: processes with the nets; 0 for one per GPU, or else one per machine.
    """

    address: str | None = None
    workers: int = 0

    def check(self, pictures: Sequence[PictureFile], draws: bool) -> None:
        """Raise ConfigError if Ray is not installed, a picture is in an archive, or something is to be drawn."""
        extras.check("ray")
        if draws:
            raise ConfigError(
                "the ray engine draws nothing", "--annotate or --gallery", "leave them out, or --engine=local"
            )
        if packed := next((picture for picture in pictures if picture.archive is not None), None):
            raise ConfigError(
                f"the ray engine reads no archives: {files.printable(packed.name)}",
                "--engine=ray",
                "unpack it, name Parquet files, or --engine=local",
            )

    @contextlib.contextmanager
    def predict(
        self,
        pictures: Sequence[PictureFile],
        runs: Sequence[str],
        options: dict[str, Any],
        boxes: dict[str, Any] | None,
        stop: StopFlag,
    ) -> Iterator[Iterator[tuple[int, list[dict[str, Any]]]]]:
        """Yield the number of pictures and the rows of each part, see `engine.predict`.

        Args:
          runs, options: arguments of `Predictor`.
          boxes: see `picture_files.sources`.
        """
        runs = [str(files.resolve(run, "--workdir")) for run in runs]
        if options["weights_dir"]:
            options = options | {"weights_dir": str(files.resolve(options["weights_dir"], "--weights_dir"))}
        stop.grace = max(stop.grace, GRACE)
        if not pictures:
            yield iter(())
            return
        with connection.connect(self.address):
            stop.install()  # Ray has its own handlers
            yield engine.predict(pictures, (runs, options, boxes), self.workers, stop)
