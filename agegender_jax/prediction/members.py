"""The nets of a predictor, from folders of runs or from shipped weights."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import ensemble, files, loading, models, weights
from agegender_jax.data.views import views
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.prediction import calibration
from agegender_jax.prediction.calibration import Calibration
from agegender_jax.structs import Probs
from agegender_jax.weights import Card, cards

CALIBRATION, ANSWERS = "calibration.json", "answers.json"  # in the folder of a run


@dataclasses.dataclass(frozen=True)
class Member:
    """A net with its weights, its config and its temperatures.

    Attributes:
      name: of the run's folder, or of the weights.
      model, variables: the Flax module and its weights.
      config: {"model": …, "data": {"image_size": …}, "eval": {"views": …}}, plain dicts.
      temperatures: of age and gender.
      digest: SHA-256 of the checkpoint or of the weights file.
      open_from, bucket_years: of the labels that it was trained on, see `Calibration`; None if unknown, and `open_from`
        also for single buckets.
    """

    name: str
    model: Any
    variables: Any
    config: dict[str, Any]
    temperatures: tuple[float, float]
    digest: str = ""
    open_from: int | None = None
    bucket_years: Sequence[float] | None = None

    @property
    def image_size(self) -> int:
        """Side of its input in pixels."""
        return self.config["data"]["image_size"]

    @property
    def views(self) -> str:
        """Views of each image whose probabilities are averaged, see `data.views`."""
        return self.config["eval"]["views"]


def from_runs(
    workdirs: Sequence[str | Path], checkpoint: str | int = "best"
) -> tuple[list[Member], dict[str, Any] | None]:
    """Return the nets of runs, and the calibration of their ensemble that one of them has for these checkpoints.

    Raises:
      CheckpointError: a run has no usable checkpoint.
      ConfigError: a run is named twice, or a net is a control, which cannot predict.
    """
    members = []
    folders = [files.expand(workdir, "--workdir") for workdir in workdirs]
    places = [files.resolve(workdir, "--workdir") for workdir in workdirs]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise ConfigError(f"a run is named twice: {place}", str(workdirs[i]), "name each run once")
    for folder, place in zip(folders, places, strict=True):
        if not folder.is_dir():
            raise CheckpointError("there is no run in the workdir", str(folder), "train first, or name another run")
        model, variables, config, step = loading.load_checkpoint(folder, checkpoint)
        _check_no_control(model, str(folder))
        stored = _read(folder / CALIBRATION)
        temperatures = _temperatures(stored, folder / CALIBRATION)
        digest = loading.checkpoint_digest(folder, step)
        config, labels = weights.card_config(config), _labels(stored)
        members.append(Member(place.name, model, variables, config, temperatures, digest, **labels))
    for folder in folders:
        for fitted in _ensembles(folder):
            if _is_for(fitted, members):
                return members, fitted.get("answers")
    return members, None


def own_thresholds(workdir: str | Path) -> dict[str, Any] | None:
    """Return the fields of the calibration that answers.json has for a run alone; None if there are none."""
    alone = [
        fitted
        for fitted in _ensembles(files.expand(workdir, "--workdir"))
        if isinstance(fitted.get("checkpoints"), list) and len(fitted["checkpoints"]) == 1
    ]
    return alone[-1].get("answers") if alone else None


def _ensembles(folder: Path) -> list[dict[str, Any]]:
    """Return what answers.json of a run has for each ensemble: "answers", "checkpoints", and see `fitted_with`."""
    ensembles = _read(folder / ANSWERS).get("ensembles")
    return [part for part in ensembles.values() if isinstance(part, dict)] if isinstance(ensembles, dict) else []


def _is_for(fitted: dict[str, Any], members: Sequence[Member]) -> bool:
    """Return whether thresholds were fitted for these nets, in any order; earlier files have the checkpoints only."""
    now = {"checkpoints": [member.digest for member in members]} | fitted_with(members)
    names = [name for name in now if name in fitted]
    then = [fitted[name] for name in names]
    if "checkpoints" not in names or any(not isinstance(of, list) or len(of) != len(members) for of in then):
        return False
    return sorted(zip(*then, strict=True)) == sorted(zip(*(now[name] for name in names), strict=True))


def label_groups(members: Sequence[Member]) -> tuple[int | None, list[float]]:
    """Return `open_from` and `bucket_years` of an ensemble, as its `Calibration` has them, from those of its nets."""
    open_from = min((member.open_from for member in members if member.open_from is not None), default=None)
    years = [member.bucket_years for member in members if member.bucket_years]
    return open_from, np.mean(years, 0).tolist() if years else calibration.middles(open_from)


def fitted_with(members: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the temperatures and the views of members, for which thresholds are valid, as answers.json has them."""
    return {
        "temperatures": [list(member.temperatures or (1.0, 1.0)) for member in members],
        "views": [member.views for member in members],
    }


def check_named(
    runs: Sequence[Any], weights: str | None, weights_dir: str | Path | None, checkpoint: str | int = "best"
) -> None:
    """Raise ConfigError if both runs and weights are named, or a checkpoint of weights."""
    if runs and (weights or weights_dir):
        raise ConfigError("both runs and weights are named", f"weights={weights or weights_dir}", "name either")
    if not runs and checkpoint != "best":
        raise ConfigError(
            "only runs have checkpoints, and none is named", f"--checkpoint={checkpoint}", "add --workdir=RUN"
        )


def from_weights(name: str, folder: Path | None = None) -> tuple[list[Member], dict[str, Any] | None, list[Card]]:
    """Return the nets of shipped weights, their ensemble's calibration, and their cards.

    Raises:
      ConfigError: there are no weights of that name, or they belong to a control.
      CheckpointError: the SHA-256 of a file is not that in its card.
    """
    card = weights.card(name, folder)
    cards = [card] if card.members is None else [weights.card(member, folder) for member in card.members]
    members = []
    for part in cards:
        model, variables = weights.load(part, folder)
        _check_no_control(model, part.name)
        config, labels = weights.card_config(part.config), _labels(part.calibration or part.about)
        members.append(Member(part.name, model, variables, config, part.temperatures, part.sha256, **labels))
    return members, card.calibration, [card, *(part for part in cards if part is not card)]


def origin(name: str, weights_dir: str | Path | None) -> str:
    """Return the name of weights in results: their name, preceded by the path of their folder if one was named."""
    return str(files.resolve(weights_dir, "weights_dir") / name) if weights_dir else name


def mean_probs(members: Sequence[Member], images: dict[int, np.ndarray]) -> Probs:
    """Return the average of the members' probabilities, after temperatures; it may still be being computed.

    Args:
      images: side -> uint8 RGB [B, side, side, 3], for each member.
    """
    inputs = [images[member.image_size] for member in members]
    temperatures, inputs = jax.device_put(([member.temperatures for member in members], inputs))  # explicitly
    return _mean_probs(
        tuple(member.model for member in members),
        tuple(member.views for member in members),
        [member.variables for member in members],
        temperatures,
        inputs,
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _mean_probs(
    nets: tuple[Any, ...], kinds: tuple[str, ...], variables: list[Any], temperatures: list[Any], images: list[Any]
) -> Probs:
    """Return what `mean_probs` returns, of lists over the members. All views of a net are one batch."""
    parts = []
    for net, kind, weights_, heads, image in zip(nets, kinds, variables, temperatures, images, strict=True):
        seen = views(image, kind)
        probs = ensemble.predict(net, weights_, jnp.concatenate(seen))
        of_views = zip(*(jnp.split(head, len(seen)) for head in (probs.age, probs.gender)), strict=True)
        parts.append(ensemble.calibrate(ensemble.mean_of_views([Probs(*view) for view in of_views]), *heads))
    return ensemble.mean_probs(parts)


def as_calibration(fields: dict[str, Any] | None, path: Path) -> Calibration | None:
    """Return the Calibration of a JSON value; None for None.

    Args:
      path: of the answers.json or the card that has it, for the message.

    Raises:
      CheckpointError: the fields are from another version or have impossible values.
    """
    try:
        return None if fields is None else calibration.parse(fields)
    except files.MALFORMED as error:
        fix = "agegender calibrate makes it again" if path.name == ANSWERS else cards.again(path)
        raise CheckpointError(f"the calibration cannot be used: {error}", str(path), fix) from error


def ensemble_key(workdirs: Sequence[str | Path]) -> str:
    """Return the name of an ensemble in answers.json of its first run: the names of the folders, in order."""
    return "+".join(files.resolve(workdir, "--workdir").name for workdir in workdirs)


def _check_no_control(model: Any, where: str) -> None:
    if models.feed_of(model) in models.CONTROLS:
        raise ConfigError("this net is a control, which predicts nothing", where, "name another net")


def _temperatures(stored: dict[str, Any], path: Path) -> tuple[float, float]:
    """Return the temperatures of age and gender in calibration.json, or 1 if there are none."""
    try:
        age, gender = (float(stored.get(f"{head}_temperature", 1.0)) for head in ("age", "gender"))
        if all(cards.TEMPERATURES[0] <= value <= cards.TEMPERATURES[1] for value in (age, gender)):
            return age, gender
    except files.MALFORMED:
        pass
    raise CheckpointError(
        f"{path.name} is damaged", str(path), "delete it; repeating the training command fits it again"
    )


def _labels(stored: dict[str, Any]) -> dict[str, Any]:
    """Return `open_from` and `bucket_years` in calibration.json or in a calibration; None where they are not there."""
    start, years = stored.get("open_from"), stored.get("bucket_years")
    return {
        "open_from": start if isinstance(start, int) and 0 < start < NUM_AGE_BUCKETS else None,
        "bucket_years": years if isinstance(years, list) and len(years) == NUM_AGE_BUCKETS else None,
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        files.check_seal(content)
    except FileNotFoundError:
        return {}
    except (OSError, *files.MALFORMED):
        content = None
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} is damaged", str(path), "delete it; repeating the training command fits it again"
        )
    return content
