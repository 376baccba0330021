"""The competitive recipe: AdamW, augmentation, mixup, a moving average of the weights. docs/recipe.md describes it.

agegender train --config=best:resnet,cpu --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: resnet (the default; ResNet-18, width 1) or ran (Attention-56, width 0.5, rate
0.0015); cpu (the default: 80 pixels, float32) or gpu (128 pixels, width 1, bfloat16, batches of 256, rate 0.002, 60
epochs). The configs `ran` and `resnet` have the paper's rate, batch size and epochs. On the test split of crop_part1
(780 images, seed 0), in age, gender and AABD: `resnet` reaches 0.636, 0.878 and 0.473 after 39 minutes on one core of
an AMD EPYC, `ran` 0.606, 0.878 and 0.526 after 50 minutes, and `resnet,gpu` 0.642, 0.883 and 0.436 on an H100
(benchmarks/README.md). `progressive` continues a net at more pixels. docs/recipe.md has the intervals and what was
tried.
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 30})
    config.optimizer.update(lr=0.001, weight_decay=0.05, ema=0.999)
    config.loss.update(label_smoothing=0.1, age="years", age_spread=0.3)
    config.model.update(name="resnet18", dropout=0.2)
    config.data.image_size = 80
    config.augment.update(shift=0.05, colour=0.1, crop=0.3, expand=0.1, aspect=0.1, rotation=10.0, grey=0.02, mixup=0.2)
    config.eval.update(every_epochs=3, views="flip")
    full_size = {
        "data": {"image_size": 128},
        "model": {"width": 1.0, "dtype": "bfloat16"},
        "batch_size": 256,
        "num_epochs": 60,
        "optimizer": {"lr": 0.002},
    }
    nets = {
        "ran": lambda c: c.update({"model": {"name": "ran56", "width": 0.5}, "optimizer": {"lr": 0.0015}}),
        "resnet": lambda c: c.update({"model": {"name": "resnet18", "width": 1.0}, "optimizer": {"lr": 0.001}}),
    }
    sizes = {
        "cpu": lambda c: None,
        "gpu": lambda c: c.update(full_size),
    }
    return config_lib.apply_variants(config, variant, nets, sizes)
