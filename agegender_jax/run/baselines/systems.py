"""The systems of the table: what they cite, what is faithful and what is chosen here, and their configs."""

import copy
from collections.abc import Callable
from typing import NamedTuple

from ml_collections import ConfigDict

from agegender_jax.configs import transfer
from agegender_jax.run import checks
from agegender_jax.run.workdir import Workdir

REFERENCE = "resnet18"


class System(NamedTuple):
    """A row of the table.

    Attributes:
      name: name of the row and of the folder of its run.
      cites: number of the reference in arXiv 2010.03791, and year.
      differs: what is faithful and what is chosen here.
      change: changes a copy of the common config.
      starts_from: the row whose run `init_from` names.
    """

    name: str
    cites: str
    differs: str
    change: Callable[[ConfigDict], None]
    starts_from: str = ""


def _net(name: str, **fields):
    def change(config: ConfigDict) -> None:
        config.model.update(name=name, **fields)

    return change


def _head(name: str, head: str):
    return _net(name, head=head, gender_to_age="none")


def _joint(config: ConfigDict) -> None:
    _head("caffenet", "elm")(config)
    config.elm.rounds = 5


def _sift(classifier: str):
    def change(config: ConfigDict) -> None:
        config.model.update(name="region_sift", classifier=classifier, gender_to_age="none", width=1.0)
        config.data.image_size = 200  # of its windows

    return change


def _patches(patches: str):
    def change(config: ConfigDict) -> None:
        side = max(8, round(config.data.image_size * 0.42))  # 40 pixels of 96
        config.model.update(name="deep_attention", patches=patches, patch=side, width=1.0)

    return change


def _local(edges: bool):
    def change(config: ConfigDict) -> None:
        config.model.update(name="local_dnn", edges=edges, gender_to_age="none", width=1.0)
        config.data.image_size = 100  # of its patches
        config.augment.update(flip=False, shift=0.0, colour=0.0)  # the net varies its own patches
        config.num_epochs *= 4  # a step sees one patch of an image

    return change


def _plain(config: ConfigDict) -> None:
    config.model.update(name="plain_cnn", gender_to_age="none", width=1.0)
    config.loss.age_weight = 0.0


def _critic(critics: str):
    return _net("frequency_critic", critics=critics, gender_to_age="none", width=1.0)


def _frozen(config: ConfigDict) -> None:
    config.model.name = "caffenet"
    config.optimizer.freeze = 5


def _slower_below(config: ConfigDict) -> None:
    config.model.name = "caffenet"
    config.optimizer.layer_decay = 0.5


def _faces(freeze: int, layer_decay: float = 1.0):
    def change(config: ConfigDict) -> None:
        transfer.start_from_faces(config)
        config.optimizer.update(freeze=freeze, layer_decay=layer_decay)

    return change


def _faces_scratch(config: ConfigDict) -> None:
    transfer.start_from_faces(config)
    config.init_from = ""


def _drawn(config: ConfigDict) -> None:
    config.model.name = "caffenet"
    config.data.update(source="synthetic:3000", train_on="", exclude="", splits="")


CAFFE = (
    "Caffe's definition, but narrower and with smaller pictures; Adam and initial weights of He et al. instead of the "
    "authors' SGD; both heads on one net; one prediction instead of ten crops"
)
TRANSFER = "CaffeNet, narrower and with smaller pictures; Adam; starts from drawn faces instead of ImageNet"
FACES = "ResNet-18 of width 0.5 from FairFace instead of VGG-Face; Adam; on FairFace itself, no fair test"
PATCHES = "the idea; small nets instead of two VGG-16, sizes chosen"
CRITIC = "the idea; layers, bands, losses and weights chosen; ResNet-18 of width 0.25 classifies"
SIFT = "regions, SIFT, PCA, LDA, SVM; template instead of detected landmarks, sizes and constants chosen"
LOCAL = "the idea; template landmarks, Sobel edges without augmentation, widths chosen"
SYSTEMS = (
    System(REFERENCE, "this library", "the paper's ResNet with its heads", _net("resnet18")),
    System("ran56", "this library", "the paper's Residual Attention Network with its heads", _net("ran56")),
    System("levi_hassner", "[15], [18], 2015", CAFFE, _net("levi_hassner")),
    System("caffenet", "[17], [18], 2017", CAFFE, _net("caffenet")),
    System("googlenet", "[18], 2017", CAFFE, _net("googlenet")),
    System("vgg16", "[17], [18], 2017", CAFFE, _net("vgg16")),
    System(
        "elm",
        "[16], 2018",
        "ELM on a trained CaffeNet; no hybrid back-propagation",
        _head("caffenet", "elm"),
        "caffenet",
    ),
    System(
        "elm_joint",
        "[16], 2018",
        "the same, CaffeNet trained through the ELM in between; rounds and rate chosen",
        _joint,
        "caffenet",
    ),
    System(
        "ridge", "control of [16]", "the same features without random units", _head("caffenet", "ridge"), "caffenet"
    ),
    System("drawn_faces", "source of [17]", "CaffeNet trained on drawn faces; scored on those", _drawn),
    System("transfer_full", "[17], 2016", f"{TRANSFER}; all layers trained", _slower_below, "drawn_faces"),
    System("transfer_head", "[17], 2016", f"{TRANSFER}; heads trained", _frozen, "drawn_faces"),
    System("faces_full", "[17], 2016", f"{FACES}; all layers trained", _faces(0, 0.5)),
    System("faces_head", "[17], 2016", f"{FACES}; heads trained", _faces(5)),
    System("faces_scratch", "control of [17]", "the same ResNet-18 from scratch", _faces_scratch),
    System("deep_attention", "[19], 2017", PATCHES, _patches("attended")),
    System("deep_attention_uniform", "control of [19]", "all patches count the same", _patches("uniform")),
    System("deep_attention_low", "control of [19]", "no patches", _patches("none")),
    System("frequency_critic", "[20], 2018", CRITIC, _critic("frequency")),
    System("frequency_critic_none", "control of [20]", "the classifier alone, its two tasks in turn", _critic("none")),
    System("region_sift_layered", "[21], 2018", SIFT, _sift("layered")),
    System("region_sift_flat", "control of [21]", "one age classifier for both genders", _sift("flat")),
    System("region_sift_rbf", "variant of [21]", "RBF SVMs without LDA", _sift("rbf")),
    System("region_sift_lda", "variant of [21]", "linear discriminants without SVM", _sift("lda")),
    System("local_dnn", "[22], 2018", LOCAL, _local(True)),
    System("local_dnn_noedges", "[22], 2018", "the local net alone", _local(False)),
    System("plain_cnn", "[27], 2019", "a stand-in: the method is not known; gender alone", _plain),
)
OTHER_SOURCE = ("drawn_faces",)  # rows that are scored on their own source and are not in the table


def config_of(system: System, common: ConfigDict, folder: Workdir) -> ConfigDict:
    """Return the config of a system's run. Common fields that have no effect on it have their defaults."""
    config = copy.deepcopy(common)
    system.change(config)
    config.update_from_flattened_dict({field: default for field, (_, default) in checks.lacking(config).items()})
    if system.starts_from:
        config.init_from = str(folder.path / system.starts_from)
    return config
