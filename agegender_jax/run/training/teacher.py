"""The teacher of `loss.teacher`: trained nets whose predictions a net learns from, besides the labels."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from agegender_jax import ensemble, files, suggestions, weights
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.prediction import members
from agegender_jax.run.host import processes
from agegender_jax.run.workdir import Workdir, calibration, write_json
from agegender_jax.structs import Probs

FIELD = "--config.loss.teacher"
HEADS = ("age", "gender")


@dataclasses.dataclass(frozen=True)
class Teacher:
    """The function from normalised images [B, S, S, 3] to the mean probabilities of nets.

    Each net sees the images once, resized to its own image size, and its probabilities are calibrated. Temperatures
    that were fitted to the average of several views (`eval.views`) make those of one view a little too confident.

    Attributes:
      nets: with their weights.
      open_from: first bucket of the open last group of ages, such as "more than 70", of any of the nets; None for none.
    """

    nets: Sequence[members.Member]
    open_from: int | None

    @property
    def identity(self) -> dict[str, Any]:
        """All that its predictions depend on, as JSON."""
        nets = [[net.digest, list(net.temperatures), net.image_size] for net in self.nets]
        return {"nets": nets, "open_from": self.open_from}

    def __call__(self, images: jax.Array) -> Probs:
        parts = []
        for net in self.nets:
            size = (len(images), net.image_size, net.image_size, 3)
            seen = images if images.shape == size else jax.image.resize(images, size, "linear")
            outputs = net.model.apply(net.variables, seen, train=False)
            probs = Probs(jax.nn.softmax(outputs.age_logits), jax.nn.softmax(outputs.gender_logits))
            parts.append(ensemble.calibrate(probs, *net.temperatures))
        return ensemble.mean_probs(parts)


def names(config: ConfigDict) -> list[str]:
    """Return the runs and shipped weights in `loss.teacher`; [] for none.

    Raises:
      ConfigError: one of several names is empty, or one is there twice.
    """
    if not config.loss.teacher:
        return []
    where, parts = f"{FIELD}={config.loss.teacher}", files.split_names(config.loss.teacher)
    if not all(parts):
        raise ConfigError("an empty name of a teacher", where, "remove the comma")
    if len({name if weights.is_shipped(name) else files.resolve(name, FIELD) for name in parts}) < len(parts):
        raise ConfigError("a teacher is named twice", where, "name each once")
    return parts


def check_exists(name: str) -> None:
    """Raise ConfigError unless `name` is that of shipped weights or of a folder."""
    if not weights.is_shipped(name) and not files.expand(name, FIELD).is_dir():
        hint = suggestions.nearest(name, weights.names())
        raise ConfigError(f"there is no run and there are no weights called {name}", f"{FIELD}={name}", hint)


def load(config: ConfigDict) -> Teacher | None:
    """Return the teacher; None for none.

    Raises:
      ConfigError: there are no such weights or runs, a net is a control, an ensemble and one of its nets are named, a
        run has not finished, or it did not train a head that this run trains.
      CheckpointError: a run has no usable checkpoint, or a file is damaged.
    """
    trained = [head for head in HEADS if config.loss[f"{head}_weight"]]
    loaded = [_load(name, trained) for name in names(config)]
    if not loaded:
        return None
    nets = [net for part, _ in loaded for net in part]
    if len({net.digest for net in nets}) < len(nets):
        raise ConfigError("a teacher is named twice", f"{FIELD}={config.loss.teacher}", "name each once")
    return Teacher(nets, min((first for _, first in loaded if first is not None), default=None))


def record(found: Teacher | None, run: Workdir) -> None:
    """Write teachers.json of a run that has not begun: what its teacher is; no file without a teacher."""
    run.teachers.unlink(missing_ok=True)  # of an earlier start that never trained
    if found:
        write_json(run.teachers, files.seal(found.identity))


def check_unchanged(found: Teacher | None, run: Workdir) -> None:
    """Check that a run goes on with the teacher that it began with, which may have been trained or calibrated since.

    Raises:
      ConfigError: it has another teacher.
      CheckpointError: teachers.json is missing or damaged.
    """
    if found is None:
        return
    try:
        recorded = json.loads(run.teachers.read_bytes())
        files.check_seal(recorded)
    except (OSError, *files.MALFORMED) as error:
        fix = "restore the file, or use another --workdir"
        raise CheckpointError("the record of the run's teacher cannot be read", str(run.teachers), fix) from error
    if recorded != files.seal(found.identity):
        fix = "restore the teacher's best checkpoint and calibration, or use another --workdir"
        raise ConfigError("the teacher has changed since this run began", FIELD, fix)


def check_everywhere(found: Teacher | None) -> None:
    """Raise ConfigError, in every process, if one process has another teacher."""
    digests = processes.gather_texts(files.seal(found.identity)[files.DIGEST] if found else "")
    if len(set(digests)) > 1:
        raise ConfigError("the processes have different teachers", FIELD, "give every process the same files")


def _load(name: str, heads: Sequence[str]) -> tuple[Sequence[members.Member], int | None]:
    """Return the nets of a name, and the first bucket of their open last group; `heads` must have been trained."""
    check_exists(name)
    if weights.is_shipped(name):
        nets, predictions, _ = members.from_weights(name)
        return nets, (predictions or {}).get("open_from")
    nets, _ = members.from_runs([name])
    run = Workdir(files.expand(name, FIELD))
    if calibration.read(run) is None:
        raise ConfigError("the teacher has not finished its training", f"{FIELD}={name}", "finish that run first")
    loss = (run.read_config() or {}).get("loss", {})
    if untrained := [head for head in heads if loss.get(f"{head}_weight") == 0]:
        raise ConfigError(
            f"the teacher has not trained its {untrained[0]} head: its loss.{untrained[0]}_weight is 0",
            f"{FIELD}={name}",
            f"name another net, or set --config.loss.{untrained[0]}_weight=0 here, too",
        )
    return nets, calibration.open_from(run)
