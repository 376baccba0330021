"""Every setting with its default, its possible values, and what may change when a run is resumed.

| field                    | meaning                                                             |
|--------------------------|---------------------------------------------------------------------|
| seed                     | initialisation, order and augmentation                              |
| deterministic            | on GPUs, the same bits in every run; slower. CPUs need no setting   |
| batch_size               | images a step, over all devices                                     |
| accumulate               | parts of a device's batch computed one after another, to save memory |
| remat                    | compute activations again in the backward pass, to save memory      |
| num_epochs, num_steps    | length of the run; num_steps counts if it is above 0. A resumed run |
|                          | of another length follows the schedule of the new one, with a       |
|                          | warning where the rate jumps                                        |
| parallel                 | driver of the step: shard_map or pmap                               |
| init_from                | weights to start from: a run's folder, weights of this package by   |
|                          | name, or a .safetensors, .npz or .pth file; empty for none          |
| model.name               | net, see `python -m launch.models`                                  |
| model.width              | channel multiplier                                                  |
| model.gender_to_age      | fed to the age head: probs, none, logits, stop_gradient, hard; true |
|                          | and shuffled are controls                                           |
| model.age_hidden         | units of a hidden layer before the age output, 0 for none           |
| model.dtype              | of the convolutions: float32 (TF32 on GPUs that have it) or bfloat16 |
| model.stem               | imagenet (7x7/2 and pooling), small (3x3/1), or the net's default   |
| model.attention          | of the RAN's masks: mixed, channel or spatial                       |
| model.learning           | of the RAN's masks: residual, (1 + mask) * trunk; naive; none       |
| model.dropout            | of the features before both heads                                   |
| model.stochastic_depth   | chance that the last residual branch of an example is left out in   |
|                          | training; of the others in proportion to their depth                |
| model.initial            | initial weights of CaffeNet and GoogLeNet: he, or the paper's        |
| model.grid, model.patch  | of deep_attention: cells and pixels of a patch, a side              |
| model.low                | of deep_attention: how much smaller the image is that chooses       |
| model.patches            | of deep_attention: attended, or the controls uniform and none       |
| model.top, model.trunk   | of deep_attention: how many patches predict, 0 for all; small, vgg16 |
| model.head               | softmax; solved on the features of `init_from`: elm or ridge        |
| model.elm_hidden, elm.scale | of the elm head: random units, and the spread of their weights   |
| elm.rounds, elm.joint_lr | epochs of SGD on the net through a solved head, each with a new      |
|                          | solution; and their rate                                             |
| model.points, model.edges | of local_dnn: five landmarks or nine patches; with an edge net     |
| model.classifier         | of region_sift: layered, flat, rbf or lda                           |
| model.support            | of region_sift: set by the fit to the number of training images     |
| optimizer.name           | adam or sgd                                                         |
| optimizer.lr             | peak learning rate                                                  |
| optimizer.schedule       | cosine or constant                                                  |
| optimizer.warmup         | fraction of the run's steps with rising rate                        |
| optimizer.final          | last rate as a fraction of the peak                                 |
| optimizer.clip_norm      | largest global gradient norm, 0 for no clipping                     |
| optimizer.weight_decay   | decoupled, on kernels                                               |
| optimizer.momentum       | of sgd                                                              |
| optimizer.ema            | decay of the moving average of parameters and BatchNorm statistics, |
|                          | (1 + step) / (10 + step) while that is less; 0 for none             |
| optimizer.layer_decay    | rate of each layer group (stem, four stages, heads) as a fraction   |
|                          | of the next one's, for fine-tuning                                  |
| optimizer.freeze         | number of layer groups whose parameters do not change, from the stem |
| optimizer.rates          | PATTERN:FACTOR, with commas: factors of the rates of parameters by  |
|                          | name, such as *_head/kernel:10,*_head/bias:20                       |
| loss.age_weight, loss.gender_weight, loss.label_smoothing | of the two losses                  |
| loss.age                 | ce, dldl, ordinal, mean_variance or years, see `losses.age_loss`    |
| loss.age_spread          | of the targets of dldl, ordinal and years, in buckets               |
| loss.age_balance         | weight of an age bucket in the age loss: count ** -age_balance      |
| data.source              | folder, archive, FairFace CSV, several with commas, or synthetic    |
| data.train_on            | further sources, as in data.source, to train on only                |
| data.exclude             | CSV with a column `file`: images to leave out of training           |
| data.image_size          | pixels a side                                                       |
| data.num_workers         | reading threads, at most one for each core                          |
| data.split_seed          | of the division into train, val and test                            |
| data.max_bad             | largest share of unusable files                                     |
| data.cache_dir           | of prepared data; empty for the user's cache folder                 |
| augment.flip, augment.shift, augment.colour | mirror; shift as a fraction of the side; relative recolouring |
| augment.crop, augment.expand | area of a random window: at most that fraction less or more     |
| augment.aspect           | largest change of the window's aspect ratio, 0.1 for 10 %           |
| augment.rotation         | largest rotation in degrees                                         |
| augment.grey, augment.erasing | shares of images without colour, and with a rectangle hidden   |
| augment.mixup            | alpha of mixup between neighbours of a batch, 0 for none            |
| log.every_steps          | steps between train lines                                           |
| log.figures              | draw figures at the end; launch.evaluate draws them in its report   |
| eval.every_epochs, eval.batch_size | epochs between evaluations on val                         |
| eval.bn_batches          | train batches over which BatchNorm statistics are computed again    |
|                          | before each evaluation, 0 for the running ones                      |
| eval.views               | of an image, whose predictions are averaged: none, flip, flip_shift |
| checkpoint.every_steps   | steps between checkpoints, besides those after evaluations          |
| train.on_nonfinite       | where a loss, gradient or weight becomes NaN or infinite: stop;     |
|                          | skip, the state stays as it was before the step; or rollback to the |
|                          | newest checkpoint and leave that batch out, at most three times     |
"""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ml_collections import ConfigDict

from agegender_jax.errors import ConfigError


def default() -> ConfigDict:
    """Return the defaults, locked: setting an unknown field is an error."""
    config = ConfigDict(
        {
            "seed": 0,
            "deterministic": False,
            "batch_size": 16,  # arXiv 2010.03791, as are the epochs, the rate and the workers
            "accumulate": 1,
            "remat": False,
            "num_epochs": 100,
            "num_steps": 0,
            "parallel": "shard_map",
            "init_from": "",
            "model": {
                "name": "ran56",
                "width": 1.0,
                "gender_to_age": "probs",
                "age_hidden": 0,
                "dtype": "float32",
                "stem": "default",
                "attention": "mixed",
                "learning": "residual",
                "dropout": 0.0,
                "stochastic_depth": 0.0,
                "initial": "default",
                "grid": 3,
                "patch": 40,
                "low": 2,
                "patches": "attended",
                "top": 0,
                "trunk": "small",
                "head": "softmax",
                "elm_hidden": 1000,
                "points": "five",
                "edges": True,
                "classifier": "layered",
                "support": 0,
            },
            "optimizer": {
                "name": "adam",
                "lr": 0.005,
                "schedule": "cosine",
                "warmup": 0.1,
                "final": 0.01,
                "clip_norm": 1.0,
                "weight_decay": 0.0,
                "momentum": 0.9,
                "ema": 0.0,
                "layer_decay": 1.0,
                "freeze": 0,
                "rates": "",
            },
            "elm": {"scale": 2.0, "rounds": 0, "joint_lr": 0.001},
            "loss": {
                "age_weight": 1.0,
                "gender_weight": 1.0,
                "label_smoothing": 0.0,
                "age": "ce",
                "age_spread": 0.5,
                "age_balance": 0.0,
            },
            "data": {
                "source": "data/crop_part1",
                "train_on": "",
                "exclude": "",
                "image_size": 200,
                "num_workers": 8,
                "split_seed": 0,
                "max_bad": 0.01,
                "cache_dir": "",
            },
            "augment": {
                "flip": True,
                "shift": 0.1,
                "colour": 0.1,
                "crop": 0.0,
                "expand": 0.0,
                "aspect": 0.0,
                "rotation": 0.0,
                "grey": 0.0,
                "erasing": 0.0,
                "mixup": 0.0,
            },
            "log": {"every_steps": 50, "figures": True},
            "eval": {"every_epochs": 1, "batch_size": 256, "views": "none", "bn_batches": 0},
            "checkpoint": {"every_steps": 500},
            "train": {"on_nonfinite": "stop"},
        }
    )
    return config.lock()


def paper(config: ConfigDict) -> None:
    """Set the paper's literal optimisation: Adam at a constant 0.005, nothing else."""
    config.optimizer.update(schedule="constant", warmup=0.0, clip_norm=0.0)


CHOICES = {
    "parallel": ("shard_map", "pmap"),
    "model.name": (
        *("ran56", "ran92", "ran56_cifar", "ran92_cifar", "ran128_cifar", "ran164_cifar", "ran236_cifar"),
        *("resnet18", "resnet34", "resnet50", "levi_hassner", "caffenet", "vgg16", "googlenet"),
        *("deep_attention", "plain_cnn", "local_dnn", "region_sift", "frequency_critic"),
    ),
    "model.gender_to_age": ("probs", "none", "logits", "stop_gradient", "hard", "true", "shuffled"),
    "model.dtype": ("float32", "bfloat16"),
    "model.stem": ("default", "imagenet", "small"),
    "model.attention": ("mixed", "channel", "spatial"),
    "model.learning": ("residual", "naive", "none"),
    "model.initial": ("default", "he", "paper"),
    "model.patches": ("attended", "uniform", "none"),
    "model.trunk": ("small", "vgg16"),
    "model.head": ("softmax", "elm", "ridge"),
    "model.points": ("five", "nine"),
    "model.classifier": ("layered", "flat", "rbf", "lda"),
    "optimizer.name": ("adam", "sgd"),
    "optimizer.schedule": ("cosine", "constant"),
    "loss.age": ("ce", "dldl", "ordinal", "mean_variance", "years"),
    "eval.views": ("none", "flip", "flip_shift"),
    "train.on_nonfinite": ("stop", "skip", "rollback"),
}

# Intervals: a round bracket leaves the bound out.
RANGES = {
    "seed": "[0, 4294967295]",
    "batch_size": "[1, inf)",
    "accumulate": "[1, inf)",
    "num_epochs": "[1, inf)",
    "num_steps": "[0, inf)",
    "model.width": "[0.015625, 16]",
    "model.age_hidden": "[0, inf)",
    "model.dropout": "[0, 0.95]",
    "model.stochastic_depth": "[0, 0.95]",
    "model.grid": "[1, 32]",
    "model.patch": "[8, 512]",
    "model.low": "[1, 8]",
    "model.top": "[-1024, 1024]",
    "model.elm_hidden": "[1, 20000]",
    "model.support": "[0, inf)",
    "elm.scale": "(0, inf)",
    "elm.rounds": "[0, inf)",
    "elm.joint_lr": "(0, inf)",
    "optimizer.lr": "(0, inf)",
    "optimizer.warmup": "[0, 1)",
    "optimizer.final": "[0, 1]",
    "optimizer.clip_norm": "[0, inf)",
    "optimizer.weight_decay": "[0, inf)",
    "optimizer.momentum": "[0, 1)",
    "optimizer.ema": "[0, 1)",
    "optimizer.layer_decay": "[0.01, 1]",
    "optimizer.freeze": "[0, 5]",
    "loss.age_weight": "[0, inf)",
    "loss.gender_weight": "[0, inf)",
    "loss.label_smoothing": "[0, 1)",
    "loss.age_spread": "[0.01, 100]",
    "loss.age_balance": "[0, 1]",
    "data.image_size": "[32, 4096]",
    "data.num_workers": "[0, inf)",
    "data.split_seed": "[0, 4294967295]",
    "data.max_bad": "[0, 1)",
    "augment.shift": "[0, 0.5]",
    "augment.colour": "[0, 1]",
    "augment.crop": "[0, 0.95]",
    "augment.expand": "[0, 3]",
    "augment.aspect": "[0, 1]",
    "augment.rotation": "[0, 180]",
    "augment.grey": "[0, 1]",
    "augment.erasing": "[0, 1]",
    "augment.mixup": "[0, 100]",
    "log.every_steps": "[1, inf)",
    "eval.every_epochs": "[1, inf)",
    "eval.batch_size": "[1, inf)",
    "eval.bn_batches": "[0, inf)",
    "checkpoint.every_steps": "[1, inf)",
}

MAY_DIFFER = ("num_epochs", "num_steps", "parallel", "data.num_workers", "data.cache_dir", "data.source")
MAY_DIFFER_GROUPS = ("log.", "checkpoint.", "train.")


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("model.width", 1.0) for every field, depth first."""
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def validate(config: ConfigDict) -> None:
    """Raise ConfigError for the first field that is missing, unknown, or has an impossible value."""
    values, defaults = dict(flat(config)), dict(flat(default()))
    for name in defaults:
        if name not in values:
            raise ConfigError(
                f"the config has no field {name}", "--config", "start from agegender_jax.config.default()"
            )
    for name, value in values.items():
        if name not in defaults:
            raise ConfigError(f"unknown config field {name}", "--config", nearest(name, defaults))
        if not same_kind(value, defaults[name]):
            raise ConfigError(
                f"{name} must be of type {type(defaults[name]).__name__}, got {value!r}",
                f"--config.{name}",
                f"the default is {defaults[name]!r}",
            )
        if name in CHOICES and value not in CHOICES[name]:
            raise ConfigError(f"unknown {name} {value!r}", f"--config.{name}", nearest(value, CHOICES[name]))
        if name in RANGES and (bounds := outside(value, RANGES[name])):
            raise ConfigError(f"{name} must be {bounds}, got {value!r}", f"--config.{name}", f"use a value {bounds}")
    if values["elm.rounds"] and values["model.head"] == "softmax":
        raise ConfigError(
            "elm.rounds needs a solved head", "--config.elm.rounds", "set model.head to elm or ridge, or leave it at 0"
        )
    if values["loss.age_weight"] == values["loss.gender_weight"] == 0:
        raise ConfigError(
            "both loss weights are 0, so nothing would be trained",
            "--config.loss.age_weight, --config.loss.gender_weight",
            "give at least one head a weight above 0",
        )


def outside(value: float, interval: str) -> str:
    """Return the interval in words where `value`, which may be NaN, is outside it, else "".

    Args:
      interval: such as "[0, 1)", where a round bracket leaves the bound out.
    """
    low, high = map(float, interval[1:-1].split(", "))
    above = value > low if interval[0] == "(" else value >= low
    below = value < high if interval[-1] == ")" else value <= high
    if above and below:
        return ""
    if interval[0] == "[" and interval[-1] == "]":
        return f"between {low:.10g} and {high:.10g}"
    least = f"above {low:.10g}" if interval[0] == "(" else f"at least {low:.10g}"
    if high == math.inf:
        return f"{least} and finite" if value == math.inf else least
    return f"{least} and below {high:.10g}"


def fields_help() -> str:
    """Return the table of all fields with their meaning."""
    return (__doc__ or "").partition("\n\n")[2]


def same_kind(value: Any, like: Any) -> bool:
    if isinstance(like, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(like, bool)
    return isinstance(value, (int, float) if isinstance(like, float) else type(like))


def nearest(name: str, known: Any) -> str:
    """Return a hint: the nearest known name, or all of them."""
    close = difflib.get_close_matches(str(name), list(known), 1)
    return f"did you mean {close[0]}?" if close else f"one of: {', '.join(known)}"


def nearest_field(field: str, known: Iterable[str]) -> str:
    """Return a hint: the dotted name that is most similar, as a whole and in its last part."""

    def likeness(name: str) -> float:
        pairs = ((field, name), (field.rpartition(".")[2], name.rpartition(".")[2]))
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    best = max(known, key=likeness)
    return f"did you mean {best}?" if likeness(best) > 0.75 else "see --help for all fields"


def to_dict(config: ConfigDict) -> dict:
    """Return plain nested dicts, for JSON."""
    return config.to_dict()


def resume_difference(old: dict, new: dict) -> list[str]:
    """Return the fields that a resumed run must not change and that differ, as "name: old -> new".

    A field that is newer than the run counts as its default.
    """
    old, new = dict(flat(default())) | dict(flat(old)), dict(flat(new))
    return [
        f"{name}: {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name) and name not in MAY_DIFFER and not name.startswith(MAY_DIFFER_GROUPS)
    ]


def apply_variants(config: ConfigDict, text: str, variants: dict[str, Callable[[ConfigDict], None]]) -> ConfigDict:
    """Apply the comma-separated variants of a config file's argument, in order.

    Raises:
      ConfigError: an unknown variant.
    """
    for name in filter(None, (text or "").split(",")):
        if name not in variants:
            raise ConfigError(f"unknown variant {name!r}", "--config=FILE:VARIANT", nearest(name, variants))
        variants[name](config)
    return config
