"""Thresholds of predictions for photos, fitted on val: answers.json of a run, or cards of weights."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agegender_jax import files, weights
from agegender_jax.errors import ConfigError, DataError
from agegender_jax.evaluation import Member
from agegender_jax.loading import load_checkpoint
from agegender_jax.photos.alignment import CHIP_SIZE
from agegender_jax.prediction import calibration
from agegender_jax.run import leaks
from agegender_jax.run.dataset import Dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.run.photo_calibration import fit, write
from agegender_jax.run.scoring.named_runs import member_names, read_runs
from agegender_jax.run.scoring.scored_images import data_config, load_scored
from agegender_jax.run.scoring.split_predictions import predict_member
from agegender_jax.run.training import final_test
from agegender_jax.run.workdir import Workdir, check_replaces, make_out


def calibrate(
    workdirs: Sequence[str],
    *,
    source: str | None = None,
    out: str | None = None,
    name: str = weights.DEFAULT,
    about: str | None = None,
) -> dict[str, Any]:
    """Fit the intervals and thresholds of an ensemble on its members' common val split, and return them.

    They are written to answers.json of the first run and, with `out`, to the cards of the weights in that folder.

    Args:
      workdirs: runs of one source and one split.
      source: the images; the runs' own source if None.
      out: folder for <member>.safetensors, <member>.json and, for several nets, <name>.json.
      name: name of the card of an ensemble, or of the files of a single net.
      about: JSON file with further fields of the cards: licence, scores, what the labels are.

    Raises:
      ConfigError, DataError, CheckpointError: an argument is wrong, or val is too small or was trained on.
    """
    if not out and (about or name != weights.DEFAULT):
        flag = "--about" if about else "--name"
        raise ConfigError("this is for the cards of weights, and none are written", flag, "add --weights_out=DIR")
    runs, configs = read_runs(workdirs)
    names = member_names([run.path.name for run in runs])
    further = _about(about)
    _check_name(name, names if len(names) > 1 else [])
    folder = files.resolve(out, "--weights_out") if out else None
    if folder:
        make_out(folder)
        _check_replaces(folder, runs, configs, names, name)
    with stop_flag() as stop, Progress(stop=stop) as progress:
        dataset = load_scored(runs, configs, data_config(runs, configs, source), progress)
        _check_split(runs, dataset)
        for run in runs:
            final_test.warn_of_trained_val(
                run, dataset, f"the nets that {run.path.name} started or learned from", progress
            )
        members = [
            predict_member(run, "best", dataset, "val", name, progress) for run, name in zip(runs, names, strict=True)
        ]
        size = max(config["data"]["image_size"] for config in configs)
        fitted = fit(members, dataset, size)
        if fitted is None:
            raise DataError(
                f"val has fewer than {calibration.ENOUGH} images", dataset.prepared.name, "train on more images"
            )
        write(runs[0], members, fitted, workdirs)
        if folder:
            _write_weights(folder, runs, members, fitted, dataset, name, further)
            progress.note(f"weights: {folder}")
        progress.note(_line(fitted))
    return fitted


def _line(fitted: Mapping[str, Any]) -> str:
    unsure = fitted["unsure"]
    if unsure["accuracy"] is None:
        return f"fitted on {fitted['n']} images: gender is unsure for all of them"
    return (
        f"fitted on {fitted['n']} images: gender is sure for {unsure['share']:.1%} of them with accuracy "
        f"{unsure['accuracy']}, and unsure for the others"
    )


def _check_replaces(
    folder: Path, runs: Sequence[Workdir], configs: Sequence[dict], members: Sequence[str], name: str
) -> None:
    """Raise ConfigError if the weights of the runs, or of their ensemble, would replace others of the same name."""
    files_of = _file_names(members, name)
    cards: dict[str, dict[str, Any]] = {} if len(runs) == 1 else {name: {"members": files_of}}
    for run, config, file in zip(runs, configs, files_of, strict=True):
        made = run.read_run() or {}
        cards[file] = {"config": weights.card_config(config), "command": made.get("command")}
    for file, fields in cards.items():
        _check_card(folder, file, json.loads(files.to_json(fields)))


def _check_card(folder: Path, file: str, fields: Mapping[str, Any]) -> None:
    """Raise ConfigError if there is a card with other values of some fields."""
    check_replaces(
        folder / f"{file}.json",
        is_same=lambda card: all(card.get(key) == value for key, value in fields.items()),
        describe=lambda card: f"{file}.json, a card of other weights",
        flag="--weights_out",
    )


def _file_names(members: Sequence[str], name: str) -> list[str]:
    """Return the names of the files of the nets: that of the call for a single net."""
    return [name] if len(members) == 1 else weights.member_names(name, members)


def _check_split(runs: Sequence[Workdir], dataset: Dataset) -> None:
    """Raise DataError unless val of the dataset is that of every run."""
    prepared, where = dataset.prepared, dataset.indices("val")
    val = {prepared.sha256[i] for i in where}
    for run in runs:
        images = leaks.read_splits(run)
        own = set(images.sha256[images.split == "val"].tolist())
        if not val:
            raise DataError("the val split is empty", dataset.prepared.name, "train on more images")
        if not val <= own:
            raise DataError(
                f"{len(val - own)} of {len(val)} images of val are not in val of this run",
                str(run.splits),
                "calibrate runs of the same data.source and data.split_seed or data.splits together",
            )


def _check_name(name: str, members: Sequence[str]) -> None:
    """Raise ConfigError unless `name` can be that of files beside those of the members."""
    if name in (*members, *weights.RESERVED) or not re.fullmatch(r"[\w+-][\w.+-]*", name):
        raise ConfigError(
            f"the ensemble cannot be called {name!r}, which is the name of a member"
            if name in members
            else f"{name!r} is not a name of weights",
            "--name",
            "use another name of letters, digits, +, - and _",
        )


def _about(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = json.loads(files.expand(path, "--about").read_bytes())
        return dict(content)
    except (OSError, *files.MALFORMED) as error:
        raise ConfigError(f"--about cannot be read: {error}", path, "name a JSON file of fields") from error


def _write_weights(
    folder: Path,
    runs: Sequence[Workdir],
    members: Sequence[Member],
    fitted: dict[str, Any],
    dataset: Dataset,
    name: str,
    further: Mapping[str, Any],
) -> None:
    alone = len(members) == 1
    names = _file_names([member.name for member in members], name)
    for run, member, file in zip(runs, members, names, strict=True):
        _, variables, config, _ = load_checkpoint(run.path, member.step)
        own = fitted if alone else fit([member], dataset, config["data"]["image_size"])
        made = run.read_run() or {}
        fields = {
            **further,
            "config": weights.card_config(config),
            "temperatures": member.temperatures or (1.0, 1.0),
            "chip_size": CHIP_SIZE,
            "parameters": member.parameters,
            "step": member.step,
            "source": made.get("source"),
            "command": made.get("command"),
            "split_sha256": hashlib.sha256(run.splits.read_bytes()).hexdigest(),
            "calibration": own,
        }
        weights.write(folder, file, variables, fields)
    if not alone:
        card = {**further, "members": names, "chip_size": CHIP_SIZE, "calibration": fitted}
        weights.write_ensemble(folder, name, card)
