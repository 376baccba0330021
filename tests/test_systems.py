"""The systems that the paper cites: their sizes, the options that they lack, and batches of any size."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from test_models import shapes_of

from agegender_jax import models
from agegender_jax.errors import ConfigError
from agegender_jax.export import program
from agegender_jax.models import sizes
from agegender_jax.prediction.members import Member

DRAW = np.random.default_rng(0)
CONFIG = {"data": {"image_size": 32}, "eval": {"views": "none"}}


def parameters(name, size, **options):
    return sizes.count(models.build(name, num_age_classes=12, **options), size)[0]


def test_parameters_with_both_heads():
    own = {"gender_to_age": "none"}
    assert parameters("deep_attention", 96) == 184_551
    assert parameters("deep_attention", 96, patches="none") == 136_198
    assert parameters("local_dnn", 64, **own, edges=False) == 566_286
    assert parameters("local_dnn", 64, **own, edges=False, points="nine") == 591_374
    assert parameters("local_dnn", 64, **own) == 566_286 + 1_449_998
    assert sizes.count(models.classifier("plain_cnn", num_classes=2), 64)[0] == 388_896 + 514
    elm_net = models.build("levi_hassner", num_age_classes=12, **own, head="elm")
    shapes = shapes_of(elm_net, 32)["params"]
    assert shapes["random"]["kernel"].size + shapes["random"]["bias"].size == 513_000
    assert shapes["output"]["kernel"].size == 14_000


def test_parts_that_only_training_uses_do_not_count():
    """The generator and the critics; the auxiliary branches of GoogLeNet."""
    own = {"num_age_classes": 12, "gender_to_age": "none"}
    resnet18 = (703_902, 11_060_992)  # of width 0.25 with both heads
    assert sizes.count(models.build("frequency_critic", **own), 64) == resnet18
    assert sizes.count(models.build("googlenet", **own), 64) == (5_973_552 + 1025 * 14, 129_114_112 + 1024 * 14)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"name": "resnet18", "points": "nine"}, "resnet18 has no points"),
        ({"name": "resnet18", "classifier": "lda"}, "resnet18 has no classifier"),
        ({"name": "resnet18", "critics": "none"}, "resnet18 has no critics"),
        ({"name": "resnet18", "grid": 4}, "resnet18 has no grid"),
        ({"name": "resnet18", "elm_hidden": 500}, "the softmax head has no elm_hidden"),
        ({"name": "resnet18", "head": "ridge", "elm_hidden": 500}, "the ridge head has no elm_hidden"),
        ({"name": "region_sift", "classifier": "lda", "support": 3}, "the lda classifier has no support vectors"),
        ({"name": "deep_attention", "patches": "none", "top": 2}, "without patches there is no top"),
        ({"name": "vgg16", "stem": "imagenet"}, "vgg16 has no stem"),
        ({"name": "local_dnn"}, "local_dnn supports only gender_to_age='none'"),
        ({"name": "resnet18", "head": "elm"}, "the elm head supports only gender_to_age='none'"),
        ({"name": "local_dnn", "gender_to_age": "none", "width": 0.5}, "local_dnn has no options of other nets"),
        ({"name": "region_sift", "gender_to_age": "none", "head": "elm"}, "region_sift has no options of other nets"),
    ],
)
def test_options_that_a_system_lacks(fields, message):
    with pytest.raises(ConfigError, match=message):
        models.from_config(fields)


@pytest.mark.parametrize("name", ["deep_attention", *models.systems()])
def test_the_batch_size_may_be_symbolic_as_in_an_export(name):
    """Also where a dimension is an expression of it, and of another trace, as in a conversion to ONNX."""
    options = {"support": 4} if name == "region_sift" else {}
    net = models.build(name, num_age_classes=12, gender_to_age="none", **options)

    def predict(variables, images):
        member = Member(name, net, variables, CONFIG, temperatures=(1.0, 1.0))
        return program.for_any_platform(program.function([member]), 32)(images)

    images = jax.ShapeDtypeStruct(jax.export.symbolic_shape("N, 32, 32, 3"), jnp.uint8)
    age, gender = jax.eval_shape(predict, shapes_of(net, 32), images)
    assert age.shape[1] == 12 and str(gender.shape[0]) == "N"
