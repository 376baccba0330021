"""Trained nets as files for other programs: StableHLO, ONNX and safetensors."""
