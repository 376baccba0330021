"""An extreme learning machine on a CNN's features, after Duan et al. 2018 ([16] of arXiv 2010.03791).

agegender train --config=four_nets:levi_hassner --workdir=runs/cnn --config.data.source=crop_part1.tar
agegender train --config=cnn_elm:levi_hassner --config.init_from=runs/cnn --config.data.source=crop_part1.tar

Variants after a colon, comma-separated: levi_hassner (the default), caffenet, resnet18 or ran, the net of `init_from`,
whose width and image size must also be given; ridge, a control without a hidden layer; joint, which trains the net
through the head for five epochs of SGD, each followed by a new solution.

What is known is that a CNN extracts features and an ELM classifies them. Here the features come from a net trained with
softmax heads; the 1000 sigmoid units, the spread of their weights, C selected on val for each head, and one net for
both tasks are our choices. The paper derives back-propagation through the hybrid; how this alternates with the solution
is not known. `joint` is one possibility: the solved weights are constant during an epoch of SGD on the squared error.
Solving takes seconds after two passes over the train split. Expect no gain over the softmax heads: a prototype on
CaffeNet's features had 0.476 and 0.782 against 0.492 and 0.782 (age and gender accuracy, `crop_part1`, test).
"""

from agegender_jax import config as config_lib


def get_config(variant: str = "") -> config_lib.ConfigDict:
    config = config_lib.default()
    config.model.update(name="levi_hassner", head="elm", gender_to_age="none")
    names = {"levi_hassner": "levi_hassner", "caffenet": "caffenet", "resnet18": "resnet18", "ran": "ran56"}
    nets = {key: lambda c, name=name: c.model.update(name=name) for key, name in names.items()}
    head = {"ridge": lambda c: c.model.update(head="ridge")}
    training = {"joint": lambda c: c.elm.update(rounds=5)}
    return config_lib.apply_variants(config, variant, nets, head, training)
