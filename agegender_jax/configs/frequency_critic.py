"""A classifier trained beside a generator and frequency critics, after Lee et al. 2018 ([20] of arXiv 2010.03791).

agegender train --config=frequency_critic --config.data.source=crop_part1.tar

Variants after a colon, comma-separated, are controls: pixel (critics of all frequencies in place of bands), none (no
generator and no critics: ResNet-18 of width 0.25 alone), simultaneous (both heads learn in every step in place of
alternating).

Only the idea is known; layers, bands, losses and weights are chosen: agegender_jax/models/frequency_critic.py.
`none,simultaneous` is the plain classifier. Without variants, and with 12 epochs instead of the 40 here, which were not
run, training took 27 minutes beside other work on two cores and gave 0.474 in age and 0.781 in gender accuracy on the
test split of `crop_part1` at 64 pixels; a plain ResNet-18 of the same width had 0.529 and 0.823 in a tenth of the time
(docs/baselines.md).
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 40})
    config.model.update(name="frequency_critic", gender_to_age="none")
    config.data.image_size = 64
    config.optimizer.lr = 0.001
    critics = {
        "pixel": lambda c: c.model.update(critics="pixels"),
        "none": lambda c: c.model.update(critics="none"),
    }
    training = {
        "simultaneous": lambda c: c.model.update(alternate=False),
    }
    return config_lib.apply_variants(config, variant, critics, training)
