"""Variants of a config: a base, and configs that differ from it in one field."""

import copy
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import models
from agegender_jax.errors import ConfigError
from agegender_jax.run import checks, dataset
from agegender_jax.run.training import initial_state, solve
from agegender_jax.suggestions import nearest_field

FIXED = {
    "seed": "name the seeds with --seeds",
    "data.source": "all variants are trained and tested on the same images; compare sources with two ablations",
    "data.train_on": "the names of images differ with it; set it with --config.data.train_on",
    "data.split_seed": "all variants are tested on the same images; set it with --config.data.split_seed",
    "data.splits": "all variants are tested on the same images; set it with --config.data.splits",
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """A config to train.

    Attributes:
      name: "field=value"; for the base, all fields, separated by commas.
      fields: the fields that it sets.
      config: all settings except the seed.
    """

    name: str
    fields: dict[str, Any]
    config: ConfigDict

    @property
    def control(self) -> bool:
        """Whether its age head receives the true or a shuffled gender, so that it does not really predict the age."""
        return self.config.model.gender_to_age in models.CONTROLS

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that its loss trains; the predictions of other heads are random and are not compared."""
        weights = {"age": self.config.loss.age_weight, "gender": self.config.loss.gender_weight}
        return tuple(head for head, weight in weights.items() if weight)

    @property
    def folder(self) -> str:
        """The name as a folder name."""
        return re.sub(r"[^\w.,=+-]", "-", self.name)[:150]


def parse(config: ConfigDict, vary: Sequence[str]) -> list[Variant]:
    """Return the variants of `config` for the texts "FIELD=a,b,c" in `vary`, the base first.

    The base has the first value of every field; each further value is a variant that differs from the base in that
    field only. Every difference from the base therefore has a single cause, and the number of runs adds up instead of
    multiplying.

    Raises:
      ConfigError: `vary` is empty, a field is unknown or fixed, or values are wrong, repeated or too few.
    """
    if not vary:
        raise ConfigError("--vary is missing", "--vary", "for example --vary=model.gender_to_age=probs,none")
    lines = [_line(text) for text in vary]
    fields = [field for field, _ in lines]
    if repeated := {field for field in fields if fields.count(field) > 1}:
        raise ConfigError(f"{repeated.pop()} varies twice", "--vary", "give all values of a field in one --vary")
    first = {field: values[0] for field, values in lines}
    base = _variant(config, first)
    rest = [_variant(base.config, {field: value}) for field, values in lines for value in values[1:]]
    if len({variant.folder for variant in (base, *rest)}) <= len(rest):
        raise ConfigError("two variants would share a folder", "--vary", "use values that differ in letters or digits")
    return [base, *rest]


def check(variants: Sequence[Variant], data_of: Mapping[str, dataset.Dataset]) -> None:
    """Raise a UserError for the first variant that cannot be trained on its dataset, by the variant's name."""
    for variant in variants:
        try:
            checks.own_config(variant.config)
            if models.is_solved(variant.config.model):
                solve.check(variant.config)
            initial_state.check_sources(variant.config)
        except ConfigError as error:
            raise ConfigError(error.what, f"--vary, variant {variant.name}: {error.where}", error.fix) from None
        checks.batch_fits(data_of[variant.name], variant.config)


def _line(text: str) -> tuple[str, list]:
    """Return ("model.width", [0.25, 0.5]) for "model.width=0.25,0.5"."""
    field, _, values = text.partition("=")
    defaults, where = dict(config_lib.flat(config_lib.default())), f"--vary={text}"
    if field not in defaults:
        raise ConfigError(f"unknown config field {field}", where, nearest_field(field, defaults))
    if field in FIXED:
        raise ConfigError(f"{field} cannot vary", where, FIXED[field])
    parsed = [_value(value, defaults[field], where) for value in values.split(",")]
    if len(parsed) < 2:
        raise ConfigError(f"{field} has only one value, so there is nothing to compare", where, f"--vary={field}=a,b")
    if len(set(parsed)) < len(parsed):
        raise ConfigError(f"{field} has the same value twice", where, "give each value once")
    return field, parsed


def _value(text: str, like: Any, where: str) -> Any:
    """Return the text as a value of the type of `like`."""
    try:
        return {"true": True, "false": False}[text.lower()] if isinstance(like, bool) else type(like)(text)
    except (KeyError, ValueError):
        kind = "true or false" if isinstance(like, bool) else f"of type {type(like).__name__}"
        raise ConfigError(f"a value must be {kind}, got {text!r}", where, f"the default is {like!r}") from None


def _variant(config: ConfigDict, fields: dict[str, Any]) -> Variant:
    name = ",".join(f"{field}={_text(value)}" for field, value in fields.items())
    own = copy.deepcopy(config)
    own.update_from_flattened_dict(fields)
    try:
        config_lib.validate(own)
    except ConfigError as error:
        raise ConfigError(error.what, f"--vary, variant {name}", error.fix) from None
    return Variant(name, fields, own)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).removesuffix(".0")
