"""python load_safetensors.py FILE.json IMAGES.npy OUT.npz: probabilities of a card's nets, by this library."""

import pathlib
import sys

import numpy as np

from agegender_jax import Predictor

card, images = pathlib.Path(sys.argv[1]), np.load(sys.argv[2])  # uint8 RGB [B, S, S, 3]
probs = Predictor(weights=card.stem, weights_dir=card.parent).probs({images.shape[1]: images})
np.savez(sys.argv[3], age=probs.age, gender=probs.gender)
