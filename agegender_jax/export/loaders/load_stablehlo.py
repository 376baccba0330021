"""python load_stablehlo.py FILE.jaxexport IMAGES.npy OUT.npz: probabilities by jax alone."""

import sys

import jax
import numpy as np

program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
age, gender = program.call(np.load(sys.argv[2]))  # uint8 RGB [B, S, S, 3]
np.savez(sys.argv[3], age=age, gender=gender)
