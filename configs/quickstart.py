"""Both nets, small, on faces that the library draws: minutes on two CPU cores, no download.

python -m launch.train --config=configs/quickstart.py:ran --workdir=runs/quickstart/ran
python -m launch.train --config=configs/quickstart.py:resnet --workdir=runs/quickstart/resnet

Expect about two minutes and one, gender accuracy near 0.9 and age accuracy near 0.6 on 600 test faces.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "ran"):
    config = config_lib.default()
    config.data.update(source="synthetic:6000", image_size=48)
    config.model.width = 0.25
    config.optimizer.lr = 0.003
    config.augment.update(shift=0.0, colour=0.0)  # the generator varies place and colour already
    nets = {
        "ran": lambda c: c.update({"model": {"name": "ran56"}, "num_epochs": 7}),
        "resnet": lambda c: c.update({"model": {"name": "resnet18"}, "num_epochs": 5}),
    }
    return config_lib.apply_variants(config, variant, nets)
