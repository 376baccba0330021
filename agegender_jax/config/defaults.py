"""Every setting of a run with its meaning and its default.

| field                    | meaning                                                             |
|--------------------------|---------------------------------------------------------------------|
| seed                     | of initialisation, order and augmentation                           |
| deterministic            | on GPUs: bit-identical runs, slower; not needed on CPUs             |
| batch_size               | images per step, over all devices                                   |
| accumulate               | parts into which a device's batch is divided, to save memory        |
| remat                    | recompute activations in the backward pass, to save memory          |
| num_epochs, num_steps    | length of the run; num_steps takes precedence if it is above 0. If  |
|                          | a resumed run has another length, its schedule spans that length,   |
|                          | with a warning if the rate jumps                                    |
| parallel                 | driver of the step: shard_map or pmap                               |
| init_from                | weights to start from: the folder of a run, the name of shipped     |
|                          | weights, or a .safetensors, .npz or .pth file; of several, separated |
|                          | by commas, their mean; empty for none                               |
| model.name               | net, see `python -m launch.models`                                  |
| model.width              | channel multiplier                                                  |
| model.gender_to_age      | input of the age head: probs, none, logits, stop_gradient, hard; or |
|                          | the controls true and shuffled                                      |
| model.age_hidden         | units of a hidden layer before the age head, 0 for none             |
| model.dtype              | of the convolutions: float32 (TF32 on GPUs that have it) or bfloat16 |
| model.stem               | imagenet (7x7/2 and pooling), small (3x3/1), or the net's default   |
| model.attention          | of the RAN's masks: mixed, channel or spatial                       |
| model.learning           | of the RAN's masks: residual, (1 + mask) * trunk; naive; none       |
| model.dropout            | dropout rate of the features before both heads                      |
| model.stochastic_depth   | probability of dropping the last residual branch of an example in   |
|                          | training; smaller for the others, in proportion to their depth      |
| model.initial            | initial weights of CaffeNet and GoogLeNet: he, or the paper's        |
| model.grid, model.patch  | of deep_attention: cells and pixels of a patch, a side              |
| model.low                | of deep_attention: reduction of the image that selects patches      |
| model.patches            | of deep_attention: attended, or the controls uniform and none       |
| model.top, model.trunk   | of deep_attention: patches used, 0 for all; small or vgg16          |
| model.head               | softmax; solved on the features of `init_from`: elm or ridge        |
| model.elm_hidden         | of the elm head: maximum number of random units; 250, 500 or 1000   |
|                          | is used instead if that is smaller and the loss on val lower        |
| elm.scale                | of the elm head: spread of the random units' weights                |
| elm.rounds, elm.joint_lr | epochs of SGD on the net through a solved head, each with a new      |
|                          | solution; and their rate                                             |
| model.points, model.edges | of local_dnn: five landmarks or nine patches; with an edge net     |
| model.classifier         | of region_sift: layered, flat, rbf or lda                           |
| model.support            | of region_sift: number of training images, set by the fit           |
| model.critics            | of frequency_critic: frequency, or the controls pixels and none     |
| model.alternate          | of frequency_critic: whether the heads learn in turn, step by step  |
| optimizer.name           | adam or sgd                                                         |
| optimizer.lr             | peak learning rate                                                  |
| optimizer.schedule       | cosine or constant                                                  |
| optimizer.warmup         | fraction of the run's steps with rising rate (cosine only)          |
| optimizer.final          | last rate as a fraction of the peak (cosine only)                   |
| optimizer.clip_norm      | largest global gradient norm, 0 for no clipping                     |
| optimizer.weight_decay   | decoupled, on kernels                                               |
| optimizer.momentum       | of sgd                                                              |
| optimizer.ema            | decay of the moving average of parameters and BatchNorm statistics, |
|                          | (1 + step) / (10 + step) as long as that is smaller; 0 for none      |
| optimizer.layer_decay    | learning rate of each layer group (stem, four stages, heads) as a   |
|                          | fraction of the next group's, for fine-tuning                       |
| optimizer.freeze         | number of frozen layer groups, counted from the stem; their         |
|                          | BatchNorm statistics still follow the new images                    |
| optimizer.rates          | comma-separated PATTERN:FACTOR: learning-rate factors by parameter  |
|                          | name, such as *_head/kernel:10,*_head/bias:20                       |
| loss.age_weight, loss.gender_weight, loss.label_smoothing | of both losses                     |
| loss.age                 | ce, dldl, ordinal, mean_variance or years, see `losses.age_loss`    |
| loss.age_spread          | of the targets of dldl, ordinal and years, in buckets               |
| loss.age_balance         | weight of an age bucket in the age loss: count ** -age_balance      |
| loss.teacher             | comma-separated runs or shipped weights whose mean predictions for  |
|                          | the augmented images are a second target; empty for none            |
| loss.teacher_weight      | of that target in the main heads' loss; the labels get the rest     |
| data.source              | folder, archive, FairFace CSV, a comma-separated list, or synthetic |
| data.train_on            | additional sources, as in data.source, only for training            |
| data.exclude             | CSV with a column `file`: images to leave out of training           |
| data.splits              | CSV with columns `file` and `split` (train, val, test; empty to     |
|                          | leave out): an official split, or splits.csv of a run; empty to     |
|                          | divide by content and data.split_seed                               |
| data.image_size          | pixels per side                                                     |
| data.num_workers         | reading threads, at most one per core                               |
| data.split_seed          | of the division into train, val and test                            |
| data.max_bad             | largest allowed share of unusable files                             |
| data.cache_dir           | of prepared data; empty for the user's cache folder                 |
| augment.flip, augment.shift, augment.colour | mirror; shift as a fraction of the side; relative recolouring |
| augment.crop, augment.expand | random window: its area is up to that fraction smaller or larger |
| augment.aspect           | largest change of the window's aspect ratio, 0.1 for 10 %           |
| augment.rotation         | largest rotation in degrees                                         |
| augment.grey, augment.erasing | shares of images without colour, and with a rectangle hidden   |
| augment.mixup            | alpha of mixup between neighbours of a batch, 0 for none            |
| log.every_steps          | steps between train rows                                            |
| log.figures              | draw figures at the end; launch.evaluate draws them in its report   |
| eval.every_epochs, eval.batch_size | epochs between evaluations on val                         |
| eval.bn_batches          | train batches from which BatchNorm statistics are recomputed before |
|                          | each evaluation, 0 for the running statistics                       |
| eval.views               | views of an image to average over: none, flip or flip_shift         |
| checkpoint.every_steps   | steps between checkpoints, besides those after evaluations          |
| train.on_nonfinite       | if a loss, gradient or weight becomes NaN or infinite: stop; skip   |
|                          | the step; or rollback to the newest checkpoint and leave that batch |
|                          | out, at most three times                                            |
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
                "teacher": "",
                "teacher_weight": 0.5,
            },
            "data": {
                "source": "data/crop_part1",
                "train_on": "",
                "exclude": "",
                "splits": "",
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
