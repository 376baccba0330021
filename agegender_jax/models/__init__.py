"""The nets by name.

`build` returns the whole net, `backbone` the part that turns images into features, `classifier` a net with one head,
and `names` their names.
"""

from agegender_jax.models.agegender import CONTROLS, FEEDS, AgeGenderNet, Classifier
from agegender_jax.models.elm import ELMNet
from agegender_jax.models.factory import SOLVED, backbone, build, classifier, feed_of, from_config, is_solved
from agegender_jax.models.nets import BACKBONES, CIFAR, SYSTEMS, names, systems

__all__ = [
    "BACKBONES",
    "CIFAR",
    "CONTROLS",
    "FEEDS",
    "SOLVED",
    "SYSTEMS",
    "AgeGenderNet",
    "Classifier",
    "ELMNet",
    "backbone",
    "build",
    "classifier",
    "feed_of",
    "from_config",
    "is_solved",
    "names",
    "systems",
]

list = names  # the name in version 0.1; not in __all__, where it would hide the builtin
