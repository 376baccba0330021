"""Two heads on one backbone, the predicted gender fed to the age head (arXiv 2010.03791, Figs. 6 and 7)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from agegender_jax.models import initializers
from agegender_jax.structs import Outputs

FEEDS = ("probs", "none", "logits", "stop_gradient", "hard", "true", "shuffled")
CONTROLS = ("true", "shuffled")  # controls of experiments, which cannot predict
HEAD_INIT = initializers.normal(0.01)  # the paper is silent; small, so that both losses start at log(classes)


def feed(kind: str, logits: jax.Array, gender: jax.Array | None) -> jax.Array:
    """Return the gender input of the age head, float32 [B, 2], or [B, 0].

    | kind          | input of the age head                                                                 |
    |---------------|---------------------------------------------------------------------------------------|
    | probs         | softmax of the gender logits, through which gradients flow                            |
    | none          | nothing                                                                               |
    | logits        | the gender logits                                                                     |
    | stop_gradient | as probs, but the age loss does not reach the gender head                             |
    | hard          | the predicted 0 or 1, with the gradient of probs (straight-through, arXiv 1308.3432)  |
    | true          | the label, 0 or 1 (an oracle)                                                         |
    | shuffled      | stop_gradient of the example two before on the device, which carries no information   |

    Args:
      logits: [B, 2].
      gender: int [B], labels; only for "true".
    """
    probs = nn.softmax(logits)
    if kind == "probs":
        return probs
    if kind == "none":
        return logits[:, :0]
    if kind == "logits":
        return logits
    if kind == "stop_gradient":
        return lax.stop_gradient(probs)
    if kind == "hard":
        return probs + lax.stop_gradient(jax.nn.one_hot(probs.argmax(-1), probs.shape[-1]) - probs)
    if kind == "true":
        return jax.nn.one_hot(gender, logits.shape[-1])
    return jnp.roll(lax.stop_gradient(probs), min(2, len(probs) - 1), axis=0)  # the one before can be mixup's partner


class AgeGenderNet(nn.Module):
    """gender = Dense(2)(f); age = Dense(A)(concat(f, feed)), f the backbone's features.

    Attributes:
      backbone: a module with `attend(images, train=...) -> (features [B, F], attention masks)` and, if it has auxiliary
        branches, `branches(images, train=..., auxiliary=...) -> (features, auxiliary features)`.
      num_age_classes: A.
      gender_to_age: one of FEEDS, see `feed`.
      age_hidden: units of one hidden layer before the age head's output, 0 for none.
      dropout: dropout rate of the features before both heads; training then needs a key named "dropout".
    """

    backbone: nn.Module
    num_age_classes: int
    gender_to_age: str = "probs"
    age_hidden: int = 0
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool, gender: jax.Array | None = None) -> Outputs:
        """Return Outputs, with float32 logits, of images float32 [B, H, W, 3] (see data.normalize).

        Args:
          gender: int [B], labels, used only if `gender_to_age` is "true".

        Raises:
          ValueError: `gender_to_age` is "true" without `gender`, or "shuffled" with only one image.
        """
        attention: tuple[jax.Array, ...] = ()
        branches: tuple[jax.Array, ...] = ()
        if hasattr(self.backbone, "branches"):
            auxiliary = train or self.is_initializing()
            features, branches = self.backbone.branches(images, train=train, auxiliary=auxiliary)
        else:
            features, attention = self.backbone.attend(images, train=train)
        if self.dropout:
            features = nn.Dropout(self.dropout, deterministic=not train)(features)
        if gender is None and self.is_initializing():
            gender = jnp.zeros(len(images), int)
        if self.gender_to_age == "true" and gender is None:
            raise ValueError("the feed 'true' needs the true gender of each image")
        if self.gender_to_age == "shuffled" and len(images) < 2 and not self.is_initializing():
            raise ValueError("the feed 'shuffled' needs at least two images")
        others = tuple(self._heads(x, gender, f"auxiliary{n}_") for n, x in enumerate(branches, 1))
        return Outputs(*self._heads(features, gender), attention, others)

    def _heads(self, features: jax.Array, gender: jax.Array | None, prefix: str = "") -> tuple[jax.Array, jax.Array]:
        """Return (age_logits [B, A], gender_logits [B, 2]) of features [B, F]."""
        gender_logits = nn.Dense(2, kernel_init=HEAD_INIT, name=f"{prefix}gender_head")(features)
        hidden = features
        if self.age_hidden:
            hidden = nn.relu(nn.Dense(self.age_hidden, name=f"{prefix}age_hidden")(features))
        hidden = jnp.concatenate([hidden, feed(self.gender_to_age, gender_logits, gender)], -1)
        return nn.Dense(self.num_age_classes, kernel_init=HEAD_INIT, name=f"{prefix}age_head")(hidden), gender_logits


class Classifier(nn.Module):
    """logits = Dense(num_classes)(f): one head, as the published nets have.

    Attributes:
      backbone: as in AgeGenderNet.
    """

    backbone: nn.Module
    num_classes: int

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Return logits float32 [B, num_classes] of images float32 [B, H, W, 3]."""
        features, _ = self.backbone.attend(images, train=train)
        return nn.Dense(self.num_classes, kernel_init=HEAD_INIT, name="head")(features)
