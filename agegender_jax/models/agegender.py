"""Two heads on one backbone, the predicted gender fed to the age head (arXiv 2010.03791, Figs. 6 and 7)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from agegender_jax.structs import Outputs

FEEDS = ("probs", "none")
HEAD_INIT = nn.initializers.normal(0.01)  # the paper is silent; small, so that both losses start at log(classes)


class AgeGenderNet(nn.Module):
    """gender = Dense(2)(f); age = Dense(A)(concat(f, softmax(gender))), f the backbone's features.

    Attributes:
      backbone: a module with `attend(images, train=...) -> (features [B, F], attention masks)`.
      num_age_classes: A.
      gender_to_age: "probs" feeds the gender probabilities, gradients flowing through them; "none" does not.
      age_hidden: units of one hidden layer before the age head's output, 0 for none.
    """

    backbone: nn.Module
    num_age_classes: int
    gender_to_age: str = "probs"
    age_hidden: int = 0

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        """images float32 [B, H, W, 3] (see data.normalize) -> Outputs, logits in float32."""
        features, attention = self.backbone.attend(images, train=train)
        gender_logits = nn.Dense(2, kernel_init=HEAD_INIT, name="gender_head")(features)
        hidden = features
        if self.age_hidden:
            hidden = nn.relu(nn.Dense(self.age_hidden, name="age_hidden")(features))
        if self.gender_to_age == "probs":
            hidden = jnp.concatenate([hidden, nn.softmax(gender_logits)], -1)
        age_logits = nn.Dense(self.num_age_classes, kernel_init=HEAD_INIT, name="age_head")(hidden)
        return Outputs(age_logits, gender_logits, attention)
