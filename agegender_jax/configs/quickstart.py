"""Both nets at a small size on synthetic faces: minutes on two CPU cores, without a download.

agegender train --config=quickstart:ran --workdir=runs/quickstart/ran
agegender train --config=quickstart:resnet --workdir=runs/quickstart/resnet
agegender evaluate --workdir=runs/quickstart/ran --workdir=runs/quickstart/resnet --out=reports/quickstart

Variants after a colon: ran (Attention-56, 5 epochs), resnet (ResNet-18, 5 epochs).

Result on the test split (600 faces, seed 0, two cores of an AMD EPYC with AVX-512, Python 3.11, jax 0.10.2), as
(age accuracy, gender accuracy, AABD): ran 0.558, 0.837, 0.513; resnet 0.608, 0.917, 0.433; ensemble 0.617, 0.922,
0.430. The three commands took 258 s there. docs/accuracy.md has the intervals.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "ran") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.data.update(source="synthetic:6000", image_size=48)
    config.model.width = 0.25
    config.optimizer.lr = 0.003
    config.augment.update(shift=0.0, colour=0.0)  # the generator varies position and colour already
    nets = {
        "ran": lambda c: c.update({"model": {"name": "ran56"}, "num_epochs": 5}),
        "resnet": lambda c: c.update({"model": {"name": "resnet18"}, "num_epochs": 5}),
    }
    return config_lib.apply_variants(config, variant, nets)
