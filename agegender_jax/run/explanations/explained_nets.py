"""The nets whose predictions are explained: those of runs, or shipped weights."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from agegender_jax import explain, files, loading, models
from agegender_jax.errors import ConfigError
from agegender_jax.photos.alignment import CHIP_SIZE
from agegender_jax.prediction import members as prediction_members
from agegender_jax.prediction.members import Member
from agegender_jax.run.explanations import explain_evaluation
from agegender_jax.run.scoring import named_runs
from agegender_jax.run.workdir import calibration
from agegender_jax.weights import DEFAULT, FOLDER


@dataclasses.dataclass(frozen=True)
class ExplainedNet:
    """A net that is loaded only when it is needed.

    Attributes:
      name: name of its files.
      origin: "workdir" or "weights", and the argument that named it.
      config: {"model": …, "data": {"image_size": …}}, plain dicts.
      open_from: first class of an open last group of ages, which the net predicts as one; None for single classes.
      chip_size: side of the aligned chip in pixels, see `photos.face_chips.find`.
      load: returns the Flax module, its variables and the step, None for weights; its argument receives warnings.
    """

    name: str
    origin: dict[str, str]
    config: dict[str, Any]
    open_from: int | None
    chip_size: int
    load: Callable[[Callable[[str], None]], tuple[Any, Any, int | None]]

    @property
    def size(self) -> int:
        """Side of its input in pixels."""
        return self.config["data"]["image_size"]


def choose(
    workdirs: Sequence[str], weights: str | None, weights_dir: str | None, checkpoint: str
) -> list[ExplainedNet]:
    """Return the nets of runs, or of weights if no run is named.

    Raises:
      ConfigError, CheckpointError: see `members.check_named`; or a net cannot be loaded or is a control.
    """
    prediction_members.check_named(workdirs, weights, weights_dir, checkpoint)
    if not workdirs:
        return _of_weights(weights or DEFAULT, weights_dir)
    runs, configs = named_runs.read_runs(workdirs)
    names = named_runs.member_names([run.path.name for run in runs])
    nets = []
    for run, name, config in zip(runs, names, configs, strict=True):
        explain_evaluation.check_no_control(run, config)

        def load(warn: Callable[[str], None], path=run.path):
            net, variables, _, step = loading.load_checkpoint(path, checkpoint, warn)
            return net, variables, step

        origin = {"workdir": run.argument}
        nets.append(ExplainedNet(name, origin, config, calibration.open_from(run), CHIP_SIZE, load))
    return nets


def check_methods(nets: Sequence[ExplainedNet], methods: Sequence[str]) -> None:
    """Raise ConfigError if a net does not support a method that was named."""
    for net in nets:
        known = explain.methods_of(models.from_config(net.config["model"]))
        if lacking := sorted(set(methods) - set(known)):
            what = f"a {net.config['model']['name']} cannot be explained by {', '.join(lacking)}"
            raise ConfigError(what, next(iter(net.origin.values())), f"--method: this net has {', '.join(known)}")


def _of_weights(name: str, weights_dir: str | None) -> list[ExplainedNet]:
    folder = files.expand(weights_dir, "--weights_dir") if weights_dir else None
    loaded, fields, cards = prediction_members.from_weights(name, folder)
    names = named_runs.member_names([member.name for member in loaded])
    fitted = prediction_members.as_calibration(fields, (folder or FOLDER) / f"{name}.json")
    open_from = fitted.open_from if fitted else prediction_members.label_groups(loaded)[0]
    return [
        ExplainedNet(
            own,
            {"weights": prediction_members.origin(name, weights_dir)},
            member.config,
            open_from,
            cards[0].chip_size,
            functools.partial(_parts, member),
        )
        for own, member in zip(names, loaded, strict=True)
    ]


def _parts(member: Member, warn: Callable[[str], None]) -> tuple[Any, Any, None]:
    """Return the net and the variables of weights, which have already been loaded."""
    return member.model, member.variables, None
