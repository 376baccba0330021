"""Cards of weights: JSON files that describe a net or an ensemble."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agegender_jax import files
from agegender_jax.errors import CheckpointError

FOLDER = Path(__file__).parent
SCHEMA = 1
RESERVED = ("export",)  # not a card: export.json of `run.export`
TEMPERATURES = 1e-3, 1e3
CHIP_SIZES = 16, 1024  # pixels


@dataclasses.dataclass(frozen=True)
class Card:
    """A description of weights. Additional fields of the JSON are in `about`.

    Attributes:
      name: name of the files.
      members: names of the weights of an ensemble; None for a single net.
      calibration: fields of `prediction.calibration.Calibration`.
      config: {"model": …, "data": {"image_size": …}, "eval": {"views": …}} of the net; {} of an ensemble.
      sha256: of the .safetensors file; "" of an ensemble.
      temperatures: of age and gender.
      chip_size: side of the aligned chips that it was trained on.
      about: training data, licence, split, scores, command.
    """

    name: str
    members: tuple[str, ...] | None
    calibration: dict[str, Any] | None
    config: dict[str, Any]
    sha256: str
    temperatures: tuple[float, float]
    chip_size: int
    about: dict[str, Any]


def read(path: Path) -> Card:
    """Return the card of a JSON file.

    Raises:
      CheckpointError: the card is damaged.
    """
    try:
        fields = json.loads(path.read_bytes())
        files.check_seal(fields)
        fields.pop(files.DIGEST, None)
        if fields.pop("schema") != SCHEMA:
            raise ValueError("of another version")
        age, gender = fields.pop("temperatures", (1.0, 1.0))
        members = fields.pop("members", None)
        if not isinstance(members, list | None) or not all(isinstance(member, str) for member in members or []):
            raise ValueError("members is not a list of names")
        return _checked(
            Card(
                name=path.stem,
                members=None if members is None else tuple(members),
                calibration=fields.pop("calibration"),
                config=fields.pop("config", {}),
                sha256=fields.pop("sha256", ""),
                temperatures=(float(age), float(gender)),
                chip_size=int(fields.pop("chip_size")),
                about=fields,
            )
        )
    except (OSError, *files.MALFORMED) as error:
        raise CheckpointError(f"the card of the weights is damaged: {error}", str(path), again(path)) from error


def again(path: Path) -> str:
    """Return the advice for a damaged file: of the package, or in another folder."""
    return "install the package again" if path.parent == FOLDER else "copy the file again, or use other weights"


def _checked(card: Card) -> Card:
    """Return the card; raise ValueError for impossible values, which a file from elsewhere may have."""
    if not all(TEMPERATURES[0] <= value <= TEMPERATURES[1] for value in card.temperatures):
        raise ValueError(f"temperatures {card.temperatures}")
    if not CHIP_SIZES[0] <= card.chip_size <= CHIP_SIZES[1]:
        raise ValueError(f"chip_size {card.chip_size}")
    if not isinstance(card.calibration, dict | None) or not isinstance(card.config, dict):
        raise ValueError("calibration or config is not an object")
    if card.members is not None and not card.members:
        raise ValueError("an ensemble without members")
    if card.name in (card.members or ()):
        raise ValueError("an ensemble names itself as a member")
    if len(set(card.members or ())) < len(card.members or ()):
        raise ValueError("an ensemble names a member twice")
    return card


def card_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a run's config that a card contains."""
    return {
        "model": dict(config["model"]),
        "data": {"image_size": config["data"]["image_size"]},
        "eval": {"views": config.get("eval", {}).get("views", "none")},
    }


def write(path: Path, fields: Mapping[str, Any]) -> None:
    """Write a card: its fields, the schema and a digest of them, with a line for each field."""
    sealed = files.seal({"schema": SCHEMA} | dict(fields) | {"schema": SCHEMA})
    lines = ",\n".join(f"{json.dumps(name)}: {files.to_json(value)}" for name, value in sealed.items())
    files.replace(path, f"{{\n{lines}\n}}\n")
