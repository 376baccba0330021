"""python load_onnx.py FILE.onnx IMAGES.npy OUT.npz: probabilities by ONNX Runtime, without jax."""

import hashlib
import sys

import numpy as np
import onnxruntime

model, digest = open(sys.argv[1], "rb").read(), open(sys.argv[1] + ".sha256", errors="replace").read(64)
if hashlib.sha256(model).hexdigest() != digest:
    sys.exit(f"{sys.argv[1]} is damaged: its SHA-256 is not that of {sys.argv[1]}.sha256")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
age, gender = session.run(["age", "gender"], {"images": np.load(sys.argv[2])})  # uint8 RGB [B, S, S, 3]
np.savez(sys.argv[3], age=age, gender=gender)
