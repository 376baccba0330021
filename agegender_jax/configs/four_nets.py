"""The four nets of Lapuschkin et al. 2017 ([18] of arXiv 2010.03791): Levi and Hassner's, CaffeNet, GoogLeNet, VGG-16.

agegender train --config=four_nets:googlenet --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: levi_hassner, caffenet (the default), googlenet, vgg16; paper (the authors'
solver for that net, from scratch, or from ImageNet for vgg16: SGD with momentum 0.9, weight decay 0.0005, their rates
per layer and their batch size; and their initial weights if the net offers them).

Layers and solvers follow the authors' own files. They train one net per task on Adience, step the rate down by 0.1 and
average 10 crops; here both heads share a net, the rate is constant, and one view is scored. Caffe adds the weight decay
to the gradient before the momentum, `optim.build` to the sum after it, where the same 0.0005 is about a tenth as strong
(1 - 0.9). Theirs trained 50,000 to 170,000 iterations at 224 or 227 pixels, `paper` 40 epochs at `data.image_size`.

The default is chosen for small data: Adam 0.001 and the initial weights of He et al. 2015. At width 0.25 and 64 pixels
an epoch of `crop_part1` takes about 20 s of one core for CaffeNet, 30 s for GoogLeNet and 80 s for VGG-16. After 2 to 5
epochs a prototype of this recipe reached age and gender accuracies of 0.41 to 0.49 and 0.74 to 0.78 on its test split.
"""

from agegender_jax import config as config_lib

RATE = {"levi_hassner": 0.001, "caffenet": 0.001, "googlenet": 0.01, "vgg16": 0.0001}
BATCH = {"levi_hassner": 50, "caffenet": 50, "googlenet": 32, "vgg16": 10}


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.update({"batch_size": 64, "num_epochs": 40})
    config.model.name = "caffenet"
    config.optimizer.lr = 0.001

    def paper(c: config_lib.ConfigDict) -> None:
        name = c.model.name
        c.batch_size = BATCH[name]
        c.optimizer.update(name="sgd", lr=RATE[name], schedule="constant", warmup=0.0, clip_norm=0.0)
        heads = "*_head/kernel:10,*_head/bias:20" if name in ("levi_hassner", "vgg16") else ""
        dense = "backbone/fc*/kernel:10,backbone/fc*/bias:20" if name == "vgg16" else ""
        c.optimizer.update(weight_decay=0.0005, rates=",".join(filter(None, ("*/bias:2", dense, heads))))
        c.model.initial = "paper" if name in ("caffenet", "googlenet") else "default"

    nets = {name: lambda c, name=name: c.model.update(name=name) for name in RATE}
    return config_lib.apply_variants(config, variant, nets, {"paper": paper})
