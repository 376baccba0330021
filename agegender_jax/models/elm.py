"""An extreme learning machine on a CNN's features, after Duan et al. 2018 ([16] of arXiv 2010.03791).

    H = sigmoid(X W + b),   prediction = argmax H beta

X are standardised features of a trained backbone; W and b are random and never trained; beta, one matrix for both
heads, is solved in closed form (`solve.elm`; Huang et al. 2012).
"""

import flax.linen as nn
import jax

from agegender_jax.structs import Outputs


class ELMNet(nn.Module):
    """images float32 [B, H, W, 3] (see data.normalize) -> Outputs, called as AgeGenderNet. Nothing is trained by steps.

    Attributes:
      backbone: as in AgeGenderNet.
      num_age_classes: A.
      hidden: L, the number of random units.
    """

    backbone: nn.Module
    num_age_classes: int
    hidden: int = 1000

    gender_to_age = "none"

    def setup(self):
        self.random = nn.Dense(self.hidden, precision="highest")
        self.output = nn.Dense(2 + self.num_age_classes, use_bias=False, precision="highest")

    def __call__(self, images: jax.Array, *, train: bool) -> Outputs:
        features, attention = self.backbone.attend(images, train=train)
        logits = self.output(self.hidden_units(features))
        return Outputs(logits[:, 2:], logits[:, :2], attention)

    def hidden_units(self, features: jax.Array) -> jax.Array:
        """Return H [B, L] of features [B, F], whose standardisation is part of W and b."""
        return nn.sigmoid(self.random(features))
