"""A plain CNN for gender alone: a stand-in for Nair et al. 2019 ([27] of arXiv 2010.03791).

agegender train --config=plain_cnn --config.data.source=crop_part1.tar

All that is known about that work is a gender accuracy of 0.9485, quoted in Table II without data, split or method.
Nothing here is taken from it. At 64 pixels and 12 epochs it has a gender accuracy of 0.815 on the test split of
`crop_part1` after 18 minutes beside other work on two cores (docs/baselines.md). The 40 epochs here were not run.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 40})
    config.model.update(name="plain_cnn", gender_to_age="none")
    config.optimizer.lr = 0.001
    config.loss.age_weight = 0.0
    return config_lib.apply_variants(config, variant, {})
