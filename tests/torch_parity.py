"""Outputs and gradients of the ResNets of benchmarks/torch_nets.py with random weights.

`python -m tests.torch_parity` writes tests/torch_golden.json, which the tests compare with where PyTorch is missing
(`pip install torch`; written with 2.13.0 on CPU).

Everything is float64: on random weights, rounding in float32 sends some activations to the other side of a ReLU, and
PyTorch's own float32 gradients are then up to 30 % away from its float64 ones (ResNet-50).
"""

import json
import pathlib
import zlib

import numpy as np

BATCH, SIZE, CLASSES = 8, 96, 10
NETS = ("resnet18", "resnet34", "resnet50")
GOLDEN = pathlib.Path(__file__).with_name("torch_golden.json")


def batch():
    """Return images float64 [B, 3, S, S] and labels int [B]."""
    draw = np.random.RandomState(0)
    return draw.standard_normal((BATCH, 3, SIZE, SIZE)), draw.randint(0, CLASSES, BATCH)


def random_value(name, shape):
    """Return the same weights for the same name everywhere; kernels keep the variance, statistics are positive."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        draw *= np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        draw = 0.8 + 0.4 / (1 + np.exp(-draw))
    else:
        draw *= 0.1
    return draw


def samples(array):
    """Return what the golden file stores of an array: its largest magnitude and three entries."""
    flat = np.asarray(array).ravel()
    positions = np.random.RandomState(len(flat)).randint(0, len(flat), 3)
    return [float(f"{value:.9g}") for value in (np.abs(flat).max(), *flat[positions])]


def build(name):
    """Return the PyTorch net with random weights."""
    import torch
    from torch import nn

    from benchmarks import torch_nets

    net = torch_nets.backbone(name)
    net.fc = nn.Linear(net.features, CLASSES)
    net.double()
    state = {n: torch.from_numpy(random_value(n, v.shape)) for n, v in net.state_dict().items() if v.ndim}
    net.load_state_dict(state, strict=False)
    return net


def run(net):
    """Return logits at inference [B, C], logits in training, and the gradient of the mean cross-entropy by name."""
    import torch

    images, labels = (torch.from_numpy(x) for x in batch())
    with torch.no_grad():
        inference = net.fc(net.eval()(images)).numpy()
    logits = net.fc(net.train()(images))
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return inference, logits.detach().numpy(), {n: p.grad.numpy() for n, p in net.named_parameters()}


def main():
    result = {}
    for name in NETS:
        inference, training, gradients = run(build(name))
        result[name] = {
            "inference": inference.tolist(),
            "training": training.tolist(),
            "gradients": {n: samples(g) for n, g in gradients.items()},
        }
    GOLDEN.write_text(json.dumps(result, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
