"""The net of a config and its compiled training step."""

import functools

import jax
import numpy as np
from ml_collections import ConfigDict

from agegender_jax import data, losses, metrics, models, optim, parallel, training
from agegender_jax.data.augment import augment
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.run.training.teacher import Teacher


def build_model(config: ConfigDict) -> models.AgeGenderNet:
    """Return the net of `config` for training: BatchNorm averages its statistics over the devices."""
    return models.from_config(config.model, axis_name=parallel.AXIS)


def make_driver(
    config: ConfigDict,
    model,
    tx,
    devices=None,
    train_age: np.ndarray | None = None,
    teacher: Teacher | None = None,
):
    """Return the compiled training step of `config` in its driver, `shard_map` or `pmap`.

    Args:
      train_age: int [N, 2], the age buckets of the train split, for `loss.age_balance` and an open last group, which
        counts as one; None for neither.
      teacher: that of `loss.teacher`, loaded; None for labels only.
    """

    def prepare_images(keys, images):
        return data.normalize_float(augment(keys, images, config.augment))

    balance = config.loss.age_balance if train_age is not None else 0
    open_from = None if train_age is None else metrics.open_group(train_age)
    age_loss = functools.partial(
        losses.age_loss,
        kind=config.loss.age,
        spread=config.loss.age_spread,
        bucket_weights=losses.bucket_weights(train_age, NUM_AGE_BUCKETS, balance, open_from) if balance else None,
        open_from=open_from,
    )
    step = functools.partial(
        training.train_step,
        model=model,
        tx=tx,
        key=jax.random.fold_in(jax.random.key(config.seed), 1),
        prepare_images=prepare_images,
        age_weight=config.loss.age_weight,
        gender_weight=config.loss.gender_weight,
        label_smoothing=config.loss.label_smoothing,
        age_loss=age_loss,
        mixup=config.augment.mixup,
        teacher=teacher,
        teacher_weight=config.loss.teacher_weight,
        teacher_open_from=teacher and teacher.open_from,
        open_from=open_from,
        accumulate=config.accumulate,
        remat=config.remat,
        ema_decay=config.optimizer.ema,
        frozen=optim.frozen(config.optimizer),
        skip_nonfinite=config.train.on_nonfinite == "skip",
    )
    return parallel.driver(config.parallel, step, devices)
