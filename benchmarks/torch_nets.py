"""The nets of agegender_jax in PyTorch, from the tables of their papers, for comparison. Needs `pip install torch`.

The ResNets have torchvision's submodule names (agegender_jax/models/torchvision_names.py), the other nets those of this
library. Weights have PyTorch's default initialization; the layers are described in agegender_jax/models.
"""

import torch
import torch.nn.functional as F
from torch import nn

CIFAR = {"channels": (64, 128, 256), "extra_units": 1, "final_units": 0, "stem_channels": 16, "stem": "small"}
RANS = {  # attention modules in each stage
    "ran56": ((1, 1, 1), {}),
    "ran92": ((1, 2, 3), {}),
    "ran56_cifar": ((1, 1, 1), CIFAR),
    "ran92_cifar": ((2, 2, 2), CIFAR),
    "ran128_cifar": ((3, 3, 3), CIFAR),
    "ran164_cifar": ((4, 4, 4), CIFAR),
    "ran236_cifar": ((6, 6, 6), CIFAR),
}
RESNETS = {  # blocks in each layer, bottlenecks
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
}
NAMES = (*RANS, *RESNETS, "levi_hassner")
FEEDS = ("probs", "none", "logits", "stop_gradient", "hard")


def scaled(channels, width):
    return channels if width == 1 else max(8, 8 * round(channels * width / 8))


def conv(channels_in, channels, kernel=1, stride=1):
    return nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, bias=False)


def norm_relu(norm, x):
    return F.relu(norm(x), inplace=True)


def caffe_max_pool(x):
    return F.max_pool2d(x, 3, 2, ceil_mode=True) if x.shape[2:] != (1, 1) else x  # of one pixel PyTorch leaves none


def mean(x):
    """Return the mean over the map, in float32 at least."""
    return x.mean((2, 3), dtype=torch.promote_types(x.dtype, torch.float32))


class Block(nn.Module):
    """ResNet's: two 3x3 convolutions, or 1x1, 3x3, 1x1."""

    def __init__(self, channels_in, channels, stride, bottleneck, width):
        super().__init__()
        inner, out = scaled(channels, width), scaled(4 * channels if bottleneck else channels, width)
        plan = [(inner, 1, 1), (inner, 3, stride), (out, 1, 1)] if bottleneck else [(inner, 3, stride), (out, 3, 1)]
        self.depth, self.out, before = len(plan), out, channels_in
        for n, (units, kernel, step) in enumerate(plan, 1):
            self.add_module(f"conv{n}", conv(before, units, kernel, step))
            self.add_module(f"bn{n}", nn.BatchNorm2d(units))
            before = units
        self.downsample = None
        if stride != 1 or channels_in != out:
            self.downsample = nn.Sequential(conv(channels_in, out, 1, stride), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for n in range(1, self.depth + 1):
            y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
            y = F.relu(y, inplace=True) if n < self.depth else y
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet(nn.Module):
    """Images [B, 3, H, W] -> features [B, features]."""

    def __init__(self, blocks, bottleneck, *, width=1.0, stem="imagenet"):
        super().__init__()
        before, self.pooled = scaled(64, width), stem == "imagenet"
        self.conv1 = conv(3, before, *((7, 2) if self.pooled else (3, 1)))
        self.bn1 = nn.BatchNorm2d(before)
        for i, count in enumerate(blocks):
            layer = nn.Sequential()
            for b in range(count):
                layer.append(Block(before, 64 * 2**i, 2 if i and not b else 1, bottleneck, width))
                before = layer[-1].out
            self.add_module(f"layer{i + 1}", layer)
        self.features = before

    def forward(self, x):
        x = norm_relu(self.bn1, self.conv1(x))
        x = F.max_pool2d(x, 3, 2, 1) if self.pooled else x
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return mean(x)


class PreActUnit(nn.Module):
    def __init__(self, channels_in, channels, stride=1, *, width):
        super().__init__()
        inner, out = scaled(channels // 4, width), scaled(channels, width)
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), conv(channels_in, inner)
        self.bn2, self.conv2 = nn.BatchNorm2d(inner), conv(inner, inner, 3, stride)
        self.bn3, self.conv3 = nn.BatchNorm2d(inner), conv(inner, out)
        self.proj = conv(channels_in, out, 1, stride) if stride != 1 or channels_in != out else None

    def forward(self, x):
        h = norm_relu(self.bn1, x)
        y = norm_relu(self.bn2, self.conv1(h))
        y = norm_relu(self.bn3, self.conv2(y))
        return (x if self.proj is None else self.proj(h)) + self.conv3(y)


class SoftMask(nn.Module):
    def __init__(self, channels, depth, *, width):
        super().__init__()
        self.depth, out = depth, scaled(channels, width)
        for level in range(1, depth + 1):
            for n in range(1, 3 if level == depth else 2):
                self.add_module(f"down{level}_{n}", PreActUnit(out, channels, width=width))
            if level < depth:
                self.add_module(f"skip{level}", PreActUnit(out, channels, width=width))
                self.add_module(f"up{level}_1", PreActUnit(out, channels, width=width))
        self.bn1, self.conv1 = nn.BatchNorm2d(out), conv(out, out)
        self.bn2, self.conv2 = nn.BatchNorm2d(out), conv(out, out)

    def forward(self, x):
        shapes, skips = [], []
        for level in range(1, self.depth + 1):
            shapes.append(x.shape[2:])
            x = getattr(self, f"down{level}_1")(caffe_max_pool(x))
            if level < self.depth:
                skips.append(getattr(self, f"skip{level}")(x))
        x = getattr(self, f"down{self.depth}_2")(x)
        for level in range(self.depth - 1, 0, -1):
            x = getattr(self, f"up{level}_1")(self.resize(x, shapes[level]) + skips[level - 1])
        x = self.resize(x, shapes[0])
        x = self.conv1(norm_relu(self.bn1, x))
        return self.conv2(norm_relu(self.bn2, x)).sigmoid()

    @staticmethod
    def resize(x, shape):
        return x if x.shape[2:] == shape else F.interpolate(x, shape, mode="bilinear", align_corners=True)


class AttentionModule(nn.Module):
    def __init__(self, channels, depth, *, width):
        super().__init__()
        for name in ("pre1", "trunk1", "trunk2", "post1"):
            self.add_module(name, PreActUnit(scaled(channels, width), channels, width=width))
        self.mask = SoftMask(channels, depth, width=width)

    def forward(self, x):
        u = self.pre1(x)
        trunk = self.trunk2(self.trunk1(u))
        return self.post1((1 + self.mask(u)) * trunk)


class ResidualAttentionNet(nn.Module):
    """Images [B, 3, H, W] -> features [B, features]; mixed attention, residual learning."""

    def __init__(
        self,
        modules,
        *,
        channels=(256, 512, 1024),
        extra_units=0,
        final_channels=2048,
        final_units=3,
        stem_channels=64,
        width=1.0,
        stem="imagenet",
    ):
        super().__init__()
        before, self.pooled = scaled(stem_channels, width), stem == "imagenet"
        self.stem_conv = conv(3, before, *((7, 2) if self.pooled else (3, 1)))
        self.stem_bn = nn.BatchNorm2d(before)
        body = {}
        for i, (units, depth, count) in enumerate(zip(channels, (3, 2, 1), modules, strict=True), 1):
            body[f"stage{i}_res"] = PreActUnit(before, units, 1 if i == 1 else 2, width=width)
            before = scaled(units, width)
            for k in range(1, count + 1):
                body[f"stage{i}_att{k}"] = AttentionModule(units, depth, width=width)
            for j in range(1, extra_units + 1):
                body[f"stage{i}_extra{j}"] = PreActUnit(before, units, width=width)
        for j in range(1, final_units + 1):
            body[f"final_res{j}"] = PreActUnit(before, final_channels, 2 if j == 1 else 1, width=width)
            before = scaled(final_channels, width)
        for name, part in body.items():
            self.add_module(name, part)
        self.names, self.final_bn, self.features = tuple(body), nn.BatchNorm2d(before), before

    def forward(self, x):
        x = norm_relu(self.stem_bn, self.stem_conv(x))
        x = caffe_max_pool(x) if self.pooled else x
        for name in self.names:
            x = getattr(self, name)(x)
        return mean(norm_relu(self.final_bn, x))


class LeviHassner(nn.Module):
    """Images [B, 3, S, S] -> features [B, features]; S is fixed by fc6."""

    def __init__(self, image_size, *, width=1.0):
        super().__init__()
        units = [scaled(c, width) for c in (96, 256, 384)]
        self.conv1 = nn.Conv2d(3, units[0], 7, 4)
        self.conv2 = nn.Conv2d(units[0], units[1], 5, 1, 2)
        self.conv3 = nn.Conv2d(units[1], units[2], 3, 1, 1)
        side = (image_size - 7) // 4 + 1
        for _ in range(3):
            side = max(1, -(-(side - 3) // 2) + 1)
        self.features = scaled(512, width)
        self.fc6 = nn.Linear(side * side * units[2], self.features)
        self.fc7 = nn.Linear(self.features, self.features)
        scale = torch.tensor([255 * 0.229, 255 * 0.224, 255 * 0.225]).view(1, 3, 1, 1)
        self.register_buffer("pixel_scale", scale, persistent=False)  # undoes the division of normalised images

    def forward(self, x):
        x = F.local_response_norm(caffe_max_pool(F.relu(self.conv1(x * self.pixel_scale))), 5)
        x = F.local_response_norm(caffe_max_pool(F.relu(self.conv2(x))), 5)
        x = caffe_max_pool(F.relu(self.conv3(x)))
        x = F.dropout(F.relu(self.fc6(x.permute(0, 2, 3, 1).flatten(1))), 0.5, self.training)
        return F.dropout(F.relu(self.fc7(x)), 0.5, self.training)


class AgeGenderNet(nn.Module):
    """Images [B, 3, H, W] -> age logits [B, A] and gender logits [B, 2]."""

    def __init__(self, backbone, num_age_classes, gender_to_age="probs", age_hidden=0):
        super().__init__()
        self.backbone, self.gender_to_age = backbone, gender_to_age
        self.gender_head = nn.Linear(backbone.features, 2)
        self.age_hidden = nn.Linear(backbone.features, age_hidden) if age_hidden else None
        fed = 0 if gender_to_age == "none" else 2
        self.age_head = nn.Linear((age_hidden or backbone.features) + fed, num_age_classes)

    def forward(self, x):
        features = self.backbone(x)
        gender = self.gender_head(features)
        hidden = features if self.age_hidden is None else F.relu(self.age_hidden(features))
        return self.age_head(torch.cat([hidden, *self.feed(gender)], 1)), gender

    def feed(self, logits):
        if self.gender_to_age == "none":
            return ()
        if self.gender_to_age == "logits":
            return (logits,)
        probs = logits.softmax(-1)
        if self.gender_to_age == "stop_gradient":
            return (probs.detach(),)
        if self.gender_to_age == "hard":
            return (probs + (F.one_hot(probs.argmax(-1), 2) - probs).detach(),)
        return (probs,)


def backbone(name, *, width=1.0, stem="default", image_size=224):
    """Return the net without heads, with `features` outputs; levi_hassner's fc6 depends on `image_size`."""
    if name == "levi_hassner":
        return LeviHassner(image_size, width=width)
    chosen = {} if stem == "default" else {"stem": stem}
    if name in RESNETS:
        return ResNet(*RESNETS[name], width=width, **chosen)
    modules, fields = RANS[name]
    return ResidualAttentionNet(modules, width=width, **(fields | chosen))


def build(name, *, num_age_classes, gender_to_age="probs", age_hidden=0, width=1.0, stem="default", image_size=224):
    """Return the net with both heads.

    Raises:
      ValueError: this file has no counterpart.
    """
    for what, value, known in (("net", name, NAMES), ("gender_to_age", gender_to_age, FEEDS)):
        if value not in known:
            raise ValueError(f"no {what} {value!r} in PyTorch here; there are: {', '.join(known)}")
    body = backbone(name, width=width, stem=stem, image_size=image_size)
    return AgeGenderNet(body, num_age_classes, gender_to_age, age_hidden)
