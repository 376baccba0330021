"""Every setting of a run with its meaning and its default.

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
| model.critics            | of frequency_critic: frequency, or the controls pixels and none     |
| model.alternate          | of frequency_critic: whether the heads learn in turn, step by step  |
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

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict


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
                "critics": "frequency",
                "alternate": True,
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


def flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ("model.width", 1.0) for every field, depth first."""
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_dict(config: ConfigDict) -> dict:
    """Return plain nested dicts, for JSON."""
    return config.to_dict()


def fields_help() -> str:
    """Return the table of all fields with their meaning."""
    return (__doc__ or "").partition("\n\n")[2]
