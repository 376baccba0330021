"""A Residual Attention Network and a ResNet with each kind of layer once, and the tracing of a config's step."""

import jax

from agegender_jax import ensemble, models, optim, training
from agegender_jax.config import default
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet
from agegender_jax.run import train
from agegender_jax.structs import Batch

BACKBONES = {
    "ran56": (ResidualAttentionNet, {"modules": (1,), "channels": (64,), "depths": (1,), "t": 1, "final_units": 0}),
    "resnet18": (ResNet, {"blocks": (1, 1), "bottleneck": False}),
}
SIZE = 32


def patch(monkeypatch, net):
    """Replace the backbone `net` by its small version, if there is one, until the test ends."""
    if net in BACKBONES:
        monkeypatch.setitem(models.BACKBONES, net, BACKBONES[net])


def config(net, width=0.125, **fields):
    """Return the default config of a net at SIZE pixels, without figures."""
    result = default()
    result.model.update(name=net, width=width)
    result.data.image_size = SIZE
    result.log.figures = False
    result.update(fields)
    return result


def traced_step(config):
    """Return the jitted step of a config on two devices and the shapes of its arguments, a state and a batch."""
    model = train.build_model(config)
    tx = optim.build(config.optimizer, 1000)
    size, count = config.data.image_size, config.batch_size
    state = jax.eval_shape(
        lambda: training.init_state(model, tx, jax.random.key(0), size, ema=config.optimizer.ema > 0)
    )
    batch = Batch(
        jax.ShapeDtypeStruct((count, size, size, 3), "uint8"),
        jax.ShapeDtypeStruct((count, 2), "int32"),
        jax.ShapeDtypeStruct((count,), "int32"),
        jax.ShapeDtypeStruct((count,), "float32"),
        age_years=jax.ShapeDtypeStruct((count,), "int32"),
    )
    return train.make_driver(config, model, tx, jax.devices()[:2]).step, state, batch


def trace(config):
    """Return the shapes of the state, of the state after a step on two devices, and of the predictions of a batch."""
    step, state, batch = traced_step(config)
    after = jax.eval_shape(step, state, batch)
    labels = (batch.gender,) if config.model.gender_to_age == "true" else ()
    predict = jax.tree_util.Partial(ensemble.predict, models.from_config(config.model))
    return state, after, jax.eval_shape(predict, training.eval_variables(state), batch.image, *labels)
