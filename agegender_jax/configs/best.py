"""The competitive recipe: AdamW, strong augmentation, a moving average of the weights. docs/recipe.md describes it.

agegender train --config=best:resnet,cpu --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: resnet (the default) or ran; cpu (the default: 64 pixels, width 0.5, float32)
or gpu (128 pixels, width 1, bfloat16, batches of 256, rate 0.002). The configs `ran` and `resnet` have the paper's
rate, batch size and epochs; each value here that differs from theirs is to be chosen on the val split. `resnet,cpu`
takes 1.9 hours on two cores and reaches 0.614 in age, 0.871 in gender and an AABD of 0.549 on the test split of
crop_part1 (seed 0); `progressive` continues it at more pixels. docs/recipe.md has all results. With weaker colour
changes, no erasing, mixup, the age loss `years` and 60 epochs, `resnet,gpu` reaches 0.642, 0.883 and 0.436
(benchmarks/README.md). The package's `fairface_attention56` was trained with `ran` and teachers.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 50})
    config.optimizer.update(lr=0.001, weight_decay=0.05, ema=0.999)
    config.loss.label_smoothing = 0.1
    config.model.update(name="resnet18", dropout=0.2, width=0.5)
    config.data.image_size = 64
    config.augment.update(
        shift=0.05, colour=0.3, crop=0.3, expand=0.1, aspect=0.1, rotation=10.0, grey=0.05, erasing=0.25
    )
    config.eval.update(every_epochs=2, views="flip")
    full_size = {
        "data": {"image_size": 128},
        "model": {"width": 1.0, "dtype": "bfloat16"},
        "batch_size": 256,
        "optimizer": {"lr": 0.002},  # twice the rate for four times the batch
    }
    variants = {
        "ran": lambda c: c.model.update(name="ran56"),
        "resnet": lambda c: c.model.update(name="resnet18"),
        "cpu": lambda c: None,
        "gpu": lambda c: c.update(full_size),
    }
    return config_lib.apply_variants(config, variant, variants)
