"""python load_stablehlo.py FILE.jaxexport IMAGES.npy OUT.npz: probabilities by jax alone."""

import hashlib
import sys

import jax
import numpy as np

content, digest = open(sys.argv[1], "rb").read(), open(sys.argv[1] + ".sha256", errors="replace").read(64)
if hashlib.sha256(content).hexdigest() != digest:
    sys.exit(f"{sys.argv[1]} is damaged: its SHA-256 is not that of {sys.argv[1]}.sha256")
program = jax.export.deserialize(bytearray(content))
age, gender = program.call(np.load(sys.argv[2]))  # uint8 RGB [B, S, S, 3]
np.savez(sys.argv[3], age=age, gender=gender)
