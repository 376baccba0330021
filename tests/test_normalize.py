import jax
import jax.numpy as jnp
import numpy as np

from agegender_jax import data


def test_imagenet_statistics_of_each_channel():
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)
    for actual in (
        data.normalize(images),
        data.normalize(jnp.asarray(images)),
        jax.jit(data.normalize)(images),
    ):
        assert actual.dtype == np.float32 and actual.shape == images.shape
        np.testing.assert_allclose(actual, (images / 255 - mean) / std, atol=1e-5)
