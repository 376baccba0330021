"""A classifier trained beside a conditional generator with critics of spatial frequencies, after Lee et al. 2018
("Age and gender recognition with a spatial frequency critic", ICIP; [20] of arXiv 2010.03791).

Known: an encoder-generator makes faces of a requested age and gender; a critic looks at the bands of spatial frequency
that show them; the discriminator also classifies, its two tasks trained alternately. Unknown: layers, losses, weights,
bands. Chosen here, at 64 pixels:

| net                        | layers                                                                         |
|----------------------------|--------------------------------------------------------------------------------|
| encoder                    | 4x4/2 convolutions of 32, 64, 128, 256 units, leaky ReLU 0.2; dense 128        |
| generator                  | those and one-hot labels; dense 4x4x256; four times doubled, 3x3 convolutions  |
|                            | of 128, 64, 32, 3 units, ReLU, tanh                                            |
| discriminator = classifier | ResNet-18 of width 0.25 with both heads, and a dense unit for "real"           |
| two critics                | a band of the grey image; 4x4/2 convolutions of 16, 32, 64 units; dense 1      |

The ordinary training step trains all of it at once: `Outputs.penalty` has the losses of the generator, in which the
other nets' parameters are constants, and of discriminator and critics, in which generated images are. Even steps train
the age head, odd steps the gender head. The prediction is the discriminator's.

Controls: critics of all frequencies, no generator at all (ResNet-18 alone), and both heads trained in every step.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from agegender_jax.image_constants import LUMA
from agegender_jax.models import initializers, layers
from agegender_jax.models.grey import PIXEL_MEAN
from agegender_jax.models.levi_hassner import PIXEL_SCALE
from agegender_jax.models.resnet import ResNet
from agegender_jax.structs import Outputs

SIZE, CODE = 64, 128
BANDS = {"age": (12.0, 32.0), "gender": (6.0, 16.0)}  # cycles a chip
CRITICS = ("frequency", "pixels", "none")
EDGE = 1.0  # half of the width of a band's raised-cosine edges, in cycles
RECONSTRUCTION, LABELS = 10.0, 0.1  # weights
REAL = 0.1  # weight of the discriminator's own loss of "real"; with 1, its heads hardly learn
WIDTH = 0.25


def _conv(units: int, kernel: int, stride: int, name: str) -> nn.Conv:
    init, pad = initializers.scaled_normal("in"), 1
    return layers.conv(units, kernel, stride, init=init, dtype=jnp.float32, name=name, pad=pad, bias=0.0)


class Encoder(nn.Module):
    """images [B, 64, 64, 3] -> [B, 128]."""

    @nn.compact
    def __call__(self, x):
        for n, units in enumerate((32, 64, 128, 256), 1):
            x = nn.leaky_relu(_conv(units, 4, 2, f"conv{n}")(x), 0.2)
        return nn.Dense(CODE, name="dense")(x.reshape(x.shape[0], -1))


class Generator(nn.Module):
    """codes [B, 128] and one-hot labels [B, A + 2] -> normalised images [B, 64, 64, 3]."""

    @nn.compact
    def __call__(self, code, labels):
        x = nn.relu(nn.Dense(4 * 4 * 256, name="dense")(jnp.concatenate([code, labels], -1)))
        x = x.reshape(-1, 4, 4, 256)
        for n, units in enumerate((128, 64, 32, 3), 1):
            x = _conv(units, 3, 1, f"conv{n}")(x.repeat(2, 1).repeat(2, 2))
            x = nn.relu(x) if n < 4 else nn.tanh(x)
        return (127.5 * (x + 1) - PIXEL_MEAN[None, None, None]) / np.asarray(PIXEL_SCALE, np.float32)[None, None, None]


class Critic(nn.Module):
    """Normalised images [B, 64, 64, 3] -> how real a band of them looks, [B].

    Attributes:
      band: lowest and highest frequency, cycles a chip; None for all.
    """

    band: tuple[float, float] | None

    @nn.compact
    def __call__(self, images):
        grey = _grey(images)
        x = (band_pass(grey, *self.band) if self.band else grey)[..., None]
        for n, units in enumerate((16, 32, 64), 1):
            x = nn.leaky_relu(_conv(units, 4, 2, f"conv{n}")(x), 0.2)
        return nn.Dense(1, name="dense")(x.reshape(x.shape[0], -1))[:, 0]


class FrequencyCritic(nn.Module):
    """images float32 [B, H, W, 3] (see data.normalize) -> Outputs, called as AgeGenderNet, with labels in training.

    Attributes:
      num_age_classes: A.
      critics: "frequency"; "pixels" for critics of all frequencies; "none" for the classifier alone.
      alternate: whether the heads learn in turn: the age head in even steps, the gender head in odd ones.
      axis_name: mapped axis over which BatchNorm is synchronised in training.
    """

    num_age_classes: int
    critics: str = "frequency"
    alternate: bool = True
    axis_name: str | None = None

    gender_to_age = "none"
    needs_labels = True

    def setup(self):
        self.classifier = ResNet((2, 2, 2, 2), bottleneck=False, width=WIDTH, axis_name=self.axis_name)
        head = initializers.normal(0.01)
        self.age_head, self.gender_head = (nn.Dense(n, kernel_init=head) for n in (self.num_age_classes, 2))
        if self.critics != "none":
            self.real = nn.Dense(1, kernel_init=head)
            self.encoder, self.generator = Encoder(), Generator()
            bands = BANDS if self.critics == "frequency" else dict.fromkeys(BANDS)
            self.age_critic, self.gender_critic = Critic(bands["age"]), Critic(bands["gender"])

    def __call__(self, images: jax.Array, *, train: bool, age=None, gender=None, step=0) -> Outputs:
        """Return Outputs of images.

        Args:
          age, gender: in training, int [B], a bucket that counts as right and the gender; without them
            `Outputs.penalty` is None.
          step: in training, int, the number of steps before this one.
        """
        features, _ = self.classifier.attend(images, train=train)
        logits = self.age_head(features), self.gender_head(features)
        if self.is_initializing() and self.critics != "none":
            self._create(features)
        if not train:
            return Outputs(*logits)
        outputs = Outputs(*self._learning(logits, step))
        if age is None or self.critics == "none":
            return outputs
        return outputs.replace(penalty=self._penalty(images, self.real(features)[:, 0], age, gender, step))

    def frozen_at(self, step: jax.Array | int) -> dict[str, jax.Array | bool]:
        """Return the heads, by name, with whether their parameters must not change in a step, for `train_step`."""
        return {"age_head": step % 2 == 1, "gender_head": step % 2 == 0} if self.alternate else {}

    def _learning(self, logits, step):
        """Return age and gender logits, through which gradients flow in the steps of their heads alone."""
        if not self.alternate:
            return logits
        frozen = self.frozen_at(step).values()
        return tuple(jnp.where(stop, lax.stop_gradient(x), x) for stop, x in zip(frozen, logits, strict=True))

    def _create(self, features) -> None:
        """Create the parameters that predictions do not use."""
        self.real(features)
        code = self.encoder(jnp.zeros((1, SIZE, SIZE, 3)))
        image = self.generator(code, jnp.zeros((1, self.num_age_classes + 2)))
        self.age_critic(image), self.gender_critic(image)

    def _penalty(self, images, real, age, gender, step):
        faces = jax.image.resize(images, (len(images), SIZE, SIZE, 3), "linear")
        labels = (age, gender)
        target = tuple(map(half_changed, labels))
        code = self.encoder(faces)
        fake = self.generator(code, self._one_hot(target))
        same = self.generator(code, self._one_hot(labels))
        constant_fake = lax.stop_gradient(fake)
        *logits, score = self._judge(constant_fake)
        loss = REAL * (nn.relu(1 - real).mean() + nn.relu(1 + score).mean())
        loss += LABELS * _label_loss(self._learning(logits, step), target)
        for critic in (self.age_critic, self.gender_critic):
            loss += nn.relu(1 - critic(faces)).mean() + nn.relu(1 + critic(constant_fake)).mean()
            loss -= _frozen(critic, fake).mean()
        *logits, score = self._judge(fake, frozen=True)
        generator = LABELS * _label_loss(logits, target) - score.mean()
        return loss + generator + RECONSTRUCTION * jnp.abs(faces - same).mean()

    def _judge(self, images, frozen: bool = False):
        """Return the discriminator's age and gender logits and scores for "real", with these images' statistics.

        The running statistics are those of real images, with which generated ones have losses without bound.
        """
        variables = self.classifier.variables
        if frozen:
            variables = lax.stop_gradient(variables)
        alone = self.classifier.clone(parent=None)
        features, _ = alone.apply(variables, images, train=True, mutable=["batch_stats"])
        call = _frozen if frozen else lambda module, *args: module(*args)
        return call(self.age_head, features), call(self.gender_head, features), call(self.real, features)[:, 0]

    def _one_hot(self, labels):
        age, gender = labels
        return jnp.concatenate([jax.nn.one_hot(age, self.num_age_classes), jax.nn.one_hot(gender, 2)], -1)


def half_changed(label: jax.Array) -> jax.Array:
    """Return labels [B] in which every second example has that of the next one.

    They do not depend on the number of devices if each has an even number of examples.
    """
    return jnp.where(jnp.arange(len(label)) % 2 == 0, jnp.roll(label, -1), label)


def _frozen(module: nn.Module, *args):
    """Call a module with its variables as constants."""
    return module.clone(parent=None).apply(lax.stop_gradient(module.variables), *args)


def _label_loss(both: Sequence[jax.Array], labels: Sequence[jax.Array]) -> jax.Array:
    log_probs = (jax.nn.log_softmax(logits) for logits in both)
    right = [jnp.take_along_axis(x, y[:, None], -1) for x, y in zip(log_probs, labels, strict=True)]
    return -right[0].mean() - right[1].mean()


def _grey(images: jax.Array) -> jax.Array:
    """Return grey values over 64, [B, H, W], of normalised images."""
    weights = np.asarray(PIXEL_SCALE, np.float32) * np.asarray(LUMA, np.float32) / 64
    return (images * weights[None, None, None]).sum(-1)


def band_mask(size: int, low: float, high: float) -> np.ndarray:
    """Return weights [size, size / 2 + 1] of the frequencies of `rfft2`: 1 in the band, raised cosines at its edges.

    The masks of adjacent bands sum to 1. A `low` of 0 has no lower edge.
    """
    y, x = np.fft.fftfreq(size, 1 / size), np.fft.rfftfreq(size, 1 / size)
    radius = np.hypot(y[:, None], x[None])

    def above(edge: float) -> np.ndarray:
        position = np.clip((radius - edge + EDGE) / (2 * EDGE), 0, 1)
        return (1 - np.cos(np.pi * position)) / 2 if edge else np.ones_like(radius)

    return (above(low) - above(high)).astype(np.float32)


def band_pass(images: jax.Array, low: float, high: float) -> jax.Array:
    """Return what frequencies from low to high, cycles a side, make of square images [B, S, S]."""
    size = images.shape[-1]
    return jnp.fft.irfft2(jnp.fft.rfft2(images) * band_mask(size, low, high)[None], (size, size))
