"""The common fields of all systems that `launch.baselines` trains: data, image size, width, epochs.

python -m launch.baselines --config=configs/baselines.py --config.data.source=crop_part1.tar --workdir=runs/baselines

Variants after a colon: small (the default: 64 pixels, width 0.25, 12 epochs), quick (48 pixels, width 0.125, 6 epochs,
2,000 synthetic faces). docs/baselines.md describes the systems and how long they take.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 12})
    config.model.width = 0.25
    config.data.image_size = 64
    config.optimizer.lr = 0.001
    config.eval.every_epochs = 2
    config.log.figures = False
    quick = {
        "model": {"width": 0.125},
        "data": {"image_size": 48, "source": "synthetic:2000"},
        "num_epochs": 6,
    }
    variants = {"small": lambda c: None, "quick": lambda c: c.update(quick)}
    return config_lib.apply_variants(config, variant, variants)
