"""Shipped weights: a card <name>.json, and <name>.safetensors, whose SHA-256 must be that in the card."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from agegender_jax import extras, files
from agegender_jax.errors import CheckpointError, ConfigError
from agegender_jax.names import unique
from agegender_jax.weights import cards
from agegender_jax.weights.cards import FOLDER, RESERVED, Card, card_config

__all__ = [
    "DEFAULT",
    "FOLDER",
    "RESERVED",
    "Card",
    "card",
    "card_config",
    "is_shipped",
    "load",
    "member_names",
    "names",
    "write",
    "write_ensemble",
]

DEFAULT = "default"


def names(folder: Path | None = None) -> list[str]:
    """Return the names of all shipped weights, or of those in a folder."""
    stems = (path.stem for path in (folder or FOLDER).glob("*.json"))
    return sorted(stem for stem in stems if stem not in cards.RESERVED and not stem.startswith("."))


def member_names(ensemble: str, members: Iterable[str]) -> list[str]:
    """Return names for the weights of members, of which none is that of their ensemble, another's or reserved."""
    names: list[str] = []
    for member in members:
        names.append(unique(member, (*RESERVED, ensemble, *names).__contains__))
    return names


def is_shipped(name: str) -> bool:
    """Return whether a name means shipped weights: there are some, and no file or folder of that name."""
    return name in names() and not Path(name).exists()


def card(name: str, folder: Path | None = None) -> Card:
    """Return the card of weights.

    Raises:
      ConfigError: there are no weights of that name.
      CheckpointError: the card is damaged.
    """
    folder = folder or FOLDER
    known = names(folder)
    if name not in known:
        none = "this version ships no weights" if folder == FOLDER else "there are no weights in the folder"
        raise ConfigError(
            f"there are no weights called {name!r}" if known else none,
            str(folder),
            f"use one of {', '.join(known)}, or a run: --workdir=runs/ran, Predictor('runs/ran')"
            if known
            else "train nets (python -m launch.train) and name their runs: --workdir=runs/ran, Predictor('runs/ran')",
        )
    return cards.read(folder / f"{name}.json")


def load(card: Card, folder: Path | None = None) -> tuple[Any, dict[str, Any]]:
    """Return the Flax module of a card and its float32 variables.

    Raises:
      CheckpointError: the file is missing, damaged, for another net or has another SHA-256, or the card describes no
        net.
    """
    from agegender_jax import models
    from agegender_jax.checkpoint import tree
    from agegender_jax.checkpoint.variable_shapes import variable_shapes

    path = (folder or FOLDER) / f"{card.name}.safetensors"
    fix = cards.again(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"the weights cannot be read: {error.strerror}", str(path), fix) from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise CheckpointError(
            "the weights are not those that their card describes: their SHA-256 differs",
            str(path),
            fix,
        )
    arrays, template = _parse(content, path), variable_shapes(card.config, f"{card.name}.json")
    names = tree.named_leaves(template)
    if arrays.keys() != names.keys() or any(arrays[name].shape != leaf.shape for name, leaf in names.items()):
        raise CheckpointError("the weights belong to another net than their card", str(path), fix)
    return models.from_config(card.config["model"]), tree.from_dict(arrays, template)


def _parse(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .safetensors file, float32."""
    if not extras.is_installed("safetensors"):
        extras.check("photos")
    from safetensors import SafetensorError
    from safetensors.numpy import load as parse

    try:
        arrays = {name: np.asarray(value, np.float32) for name, value in parse(content).items()}
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"the weights are damaged: {error}", str(path), "use other weights") from error
    if bad := [name for name, value in arrays.items() if not np.isfinite(value).all()]:
        raise CheckpointError(f"{bad[0]} of the weights is not finite", str(path), "use other weights")
    return arrays


def write(folder: Path, name: str, variables: Any, fields: Mapping[str, Any], storage: str = "float16") -> Path:
    """Write weights with their card, and return the path of the card.

    Args:
      variables: {"params", "batch_stats"}.
      fields: the fields of the card except "schema" and "sha256": "config", "temperatures", "chip_size", "calibration"
        and any others.
      storage: "float16" or "float32".
    """
    from safetensors.numpy import save

    from agegender_jax.checkpoint import tree

    arrays = {key: np.asarray(value, storage) for key, value in tree.named_leaves(variables).items()}
    bad = [key for key, value in arrays.items() if not np.isfinite(value).all()]
    if bad:
        raise CheckpointError(f"{bad[0]} has numbers that {storage} cannot hold", name, "use other weights")
    content = save(arrays)
    files.replace(folder / f"{name}.safetensors", content)
    of_file = {"sha256": hashlib.sha256(content).hexdigest(), "storage": storage}
    cards.write(folder / f"{name}.json", of_file | dict(fields) | of_file)
    return folder / f"{name}.json"


def write_ensemble(folder: Path, name: str, fields: Mapping[str, Any]) -> Path:
    """Write the card of an ensemble (`fields` has "members", "chip_size" and "calibration"), and return its path."""
    cards.write(folder / f"{name}.json", fields)
    return folder / f"{name}.json"
