"""python load_onnx.py FILE.onnx IMAGES.npy OUT.npz: probabilities by ONNX Runtime, without jax."""

import sys

import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
age, gender = session.run(["age", "gender"], {"images": np.load(sys.argv[2])})  # uint8 RGB [B, S, S, 3]
np.savez(sys.argv[3], age=age, gender=gender)
