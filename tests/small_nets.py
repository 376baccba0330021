"""A Residual Attention Network and a ResNet with each kind of layer once, to train as a config's net."""

from agegender_jax.config import default
from agegender_jax.models.ran import ResidualAttentionNet
from agegender_jax.models.resnet import ResNet

BACKBONES = {  # what `models.BACKBONES` is patched with
    "ran56": (ResidualAttentionNet, {"modules": (1,), "channels": (64,), "depths": (1,), "t": 1, "final_units": 0}),
    "resnet18": (ResNet, {"blocks": (1, 1), "bottleneck": False}),
}
SIZE = 32


def patch(monkeypatch, net):
    """Replace the net of that name until the test ends."""
    from agegender_jax import models

    monkeypatch.setitem(models.BACKBONES, net, BACKBONES[net])


def config(net, width=0.125, **fields):
    """Return the default config of a net at SIZE pixels, without figures."""
    result = default()
    result.model.update(name=net, width=width)
    result.data.image_size = SIZE
    result.log.figures = False
    result.update(fields)
    return result
