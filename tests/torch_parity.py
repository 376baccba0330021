"""ResNets in PyTorch under torchvision's names, and what they answer and learn on random weights.

`python tests/torch_parity.py` writes tests/torch_golden.json, which the tests compare with where PyTorch is missing
(`pip install torch`; written with 2.13.0 on CPU). The layers are He et al. 2016 (arXiv 1512.03385), stride on the 3x3.

Everything is float64: on random weights, rounding in float32 sends some activations to the other side of a ReLU, and
PyTorch's own float32 gradients are then up to 30 % away from its float64 ones (ResNet-50).
"""

import json
import pathlib
import zlib

import numpy as np

BATCH, SIZE, CLASSES = 8, 96, 10
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
GOLDEN = pathlib.Path(__file__).with_name("torch_golden.json")


def batch():
    """Images float64 [B, 3, S, S] and labels int [B]."""
    draw = np.random.RandomState(0)
    return draw.standard_normal((BATCH, 3, SIZE, SIZE)), draw.randint(0, CLASSES, BATCH)


def random_value(name, shape):
    """The same weights for the same name everywhere; kernels keep the variance, statistics are positive."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if len(shape) > 1:
        draw *= np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        draw = 0.8 + 0.4 / (1 + np.exp(-draw))
    else:
        draw *= 0.1
    return draw


def samples(array):
    """What the golden file keeps of an array: its largest magnitude and three entries."""
    flat = np.asarray(array).ravel()
    places = np.random.RandomState(len(flat)).randint(0, len(flat), 3)
    return [float(f"{value:.9g}") for value in (np.abs(flat).max(), *flat[places])]


def build(name):
    """The PyTorch net with random weights."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, channels_in, inner, stride, bottleneck):
            super().__init__()
            out = 4 * inner if bottleneck else inner
            plan = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)] if bottleneck else [(inner, 3, stride), (out, 3, 1)]
            self.depth, before = len(plan), channels_in
            for n, (channels, kernel, step) in enumerate(plan, 1):
                self.add_module(f"conv{n}", nn.Conv2d(before, channels, kernel, step, kernel // 2, bias=False))
                self.add_module(f"bn{n}", nn.BatchNorm2d(channels))
                before = channels
            self.downsample = None
            if stride != 1 or channels_in != out:
                self.downsample = nn.Sequential(nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

        def forward(self, x):
            y = x
            for n in range(1, self.depth + 1):
                y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
                y = y.relu() if n < self.depth else y
            return (y + (x if self.downsample is None else self.downsample(x))).relu()

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            bottleneck = name == "resnet50"
            self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(64)
            self.maxpool = nn.MaxPool2d(3, 2, 1)
            before = 64
            for i, count in enumerate(BLOCKS[name]):
                blocks = []
                for b in range(count):
                    blocks.append(Block(before, 64 * 2**i, 2 if i and not b else 1, bottleneck))
                    before = 64 * 2**i * (4 if bottleneck else 1)
                self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
            self.fc = nn.Linear(before, CLASSES)

        def forward(self, x):
            x = self.maxpool(self.bn1(self.conv1(x)).relu())
            x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
            return self.fc(x.mean((2, 3)))

    net = ResNet().double()
    state = {n: torch.from_numpy(random_value(n, v.shape)) for n, v in net.state_dict().items() if v.ndim}
    net.load_state_dict(state, strict=False)
    return net


def run(net):
    """Logits at inference [B, C], logits in training, and the gradient of the mean cross-entropy by name."""
    import torch

    images, labels = (torch.from_numpy(x) for x in batch())
    with torch.no_grad():
        inference = net.eval()(images).numpy()
    logits = net.train()(images)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return inference, logits.detach().numpy(), {n: p.grad.numpy() for n, p in net.named_parameters()}


def main():
    found = {}
    for name in BLOCKS:
        inference, training, gradients = run(build(name))
        found[name] = {
            "inference": inference.tolist(),
            "training": training.tolist(),
            "gradients": {n: samples(g) for n, g in gradients.items()},
        }
    GOLDEN.write_text(json.dumps(found, separators=(",", ":")).replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
