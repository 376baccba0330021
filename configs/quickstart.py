"""Both nets, small, on faces that the library draws: minutes on two CPU cores, no download.

python -m launch.train --config=configs/quickstart.py:ran --workdir=runs/quickstart/ran
python -m launch.train --config=configs/quickstart.py:resnet --workdir=runs/quickstart/resnet
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "ran"):
    config = config_lib.default()
    config.data.update(source="synthetic:6000", image_size=48)
    config.model.width = 0.25
    config.optimizer.lr = 0.003
    config.augment.update(shift=0.0, colour=0.0)  # the generator varies place and colour already
    config.num_epochs = 5
    nets = {"ran": lambda c: c.model.update(name="ran56"), "resnet": lambda c: c.model.update(name="resnet18")}
    return config_lib.apply_variants(config, variant, nets)
