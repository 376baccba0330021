"""Refuse config fields that the chosen system ignores."""

from collections.abc import Iterator

from ml_collections import ConfigDict

from agegender_jax import config as config_lib
from agegender_jax import models, optim
from agegender_jax.errors import ConfigError

LAYER_GROUPS = ("optimizer.freeze", "optimizer.layer_decay")
OF_STEPS = (*LAYER_GROUPS, "optimizer.rates", "augment.mixup", "loss.teacher", "loss.teacher_weight")
WEIGHTS = ("loss.age_weight", "loss.gender_weight")


def options(config: ConfigDict) -> None:
    """Raise ConfigError for the first field that differs from its default and is known to have no effect."""
    for field, (reason, default) in lacking(config).items():
        raise ConfigError(f"{field} has no effect: {reason}", f"--config.{field}", f"leave it at {default!r}")


def lacking(config: ConfigDict) -> dict[str, tuple[str, object]]:
    """Return the fields that differ from their defaults and are known to have no effect, why, and the defaults."""
    values, defaults = (dict(config_lib.flat(fields)) for fields in (config, config_lib.default()))
    return {
        field: (reason, defaults[field])
        for field, reason in _without_effect(config)
        if (values[field] == 0 if field in WEIGHTS else values[field] != defaults[field])
    }


def _without_effect(config: ConfigDict) -> Iterator[tuple[str, str]]:
    name, head = config.model.name, config.model.head
    if head != "elm":
        yield "elm.scale", f"the {head} head has no random units"
    if not config.loss.teacher:
        yield "loss.teacher_weight", "there is no loss.teacher"
    elif not config.loss.teacher_weight:
        for field in ("loss.teacher", "loss.teacher_weight"):
            yield field, "loss.teacher_weight is 0"
    if not config.elm.rounds:
        yield "elm.joint_lr", "the net is trained through a solved head only with elm.rounds"
    if models.is_solved(config.model):
        system = name if name in models.systems() else f"the {head} head"
        for field in (*OF_STEPS, *WEIGHTS):
            yield field, f"{system} is solved, for both tasks, and not trained step by step"
        return
    if name in models.systems():
        for field in LAYER_GROUPS:
            yield field, f"{name} has no layer groups"
    if name == "deep_attention":
        yield "optimizer.layer_decay", f"{name} has no layer groups"
        if config.optimizer.freeze < optim.HEADS:  # HEADS freezes all of it but the heads
            yield "optimizer.freeze", f"{name} has no layer groups"
    if name == "frequency_critic" and config.model.critics != "none":
        yield "augment.mixup", "the generator needs images with one label"
