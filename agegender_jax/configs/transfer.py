"""Transfer learning after Ozbulak, Aytar and Ekenel 2016 ([17] of arXiv 2010.03791).

agegender train --config=transfer:caffenet,head --config.init_from=runs/fairface --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: caffenet (the default), vgg16, or faces (this package's `fairface_resnet18`,
the near domain, without `init_from`); full (the default: all layers are trained, each layer group at half the rate of
the next) or head (everything below the heads is frozen).

The paper fine-tunes CaffeNet from ImageNet and VGG-Face on Adience, and finds the nearer domain better; which layers it
freezes and which rates it uses is not known. Without `init_from` this config trains from scratch. Any source that
`init_from` names can be compared: a run on synthetic faces (far), a run on FairFace (near), Caffe's or torchvision's
weights (docs/models.md). Images that the run named by `init_from` has seen count as seen.

Results on the test split of `crop_part1` after 12 epochs at 64 pixels (docs/baselines.md), age and gender accuracy and
seconds on two cores: CaffeNet of width 0.25 from synthetic faces, full, 0.459, 0.749, 231 s, and head 0.283, 0.640,
82 s; faces, full, 0.581, 0.855, 354 s, and head 0.471, 0.786, 111 s. From scratch CaffeNet has 0.474 and 0.815.
"""

from agegender_jax import config as config_lib


def start_from_faces(config: config_lib.ConfigDict) -> None:
    """Start from this package's `fairface_resnet18` (`agegender weights`)."""
    config.model.update(name="resnet18", width=0.5)
    config.init_from = "fairface_resnet18"


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 20})
    config.model.name = "caffenet"
    config.optimizer.update(lr=0.001, layer_decay=0.5)
    nets = {
        "caffenet": lambda c: c.model.update(name="caffenet"),
        "vgg16": lambda c: c.model.update(name="vgg16"),
        "faces": start_from_faces,
    }
    trained = {
        "full": lambda c: c.optimizer.update(layer_decay=0.5, freeze=0),
        "head": lambda c: c.optimizer.update(layer_decay=1.0, freeze=5),
    }
    return config_lib.apply_variants(config, variant, nets, trained)
