"""The control: a config's net and recipe in PyTorch, on the same images, pixels, epochs and split.

python -m benchmarks.torch_recipe --config=resnet:18 --source=crop_part1.tar --workdir=runs/torch_resnet [--test]
    [--set=num_epochs=22 ...] [--seed=1] [--against=runs/resnet] [--device=cuda]
python -m benchmarks.torch_recipe --pool=runs/torch_resnet,runs/torch_resnet1    # of several seeds

Writes results.json below --workdir with the scores on val after each epoch and, with --test, those of the last weights
on the test split. --against adds those of a run of `launch.train` with the same config, and the differences, paired by
image: both nets as they are after the last step, from one view of each image. --pool writes
benchmarks/results/torch_recipe.json from the results of several seeds, with the differences over images and seeds. The
same command again resumes after the last whole epoch. Only what this file implements is accepted: Adam with decoupled
decay, cosine, clipping, moving average, label smoothing, dropout, the augmentation but for mixup. Needs `pip install
torch`.
"""

import argparse
import copy
import importlib
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F

from agegender_jax import config as config_lib
from agegender_jax import data, metrics
from agegender_jax.cli.exits import guard
from agegender_jax.labels import NUM_AGE_BUCKETS
from agegender_jax.metrics import SCORES
from agegender_jax.run import dataset
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.scoring.split_predictions import predict_member
from agegender_jax.run.workdir import Workdir
from benchmarks import result_files, tables, torch_nets, torch_steps

NAME = "torch_recipe"
IMPLEMENTED = (  # every other field must have its default
    *("seed", "batch_size", "num_epochs"),
    *(f"data.{name}" for name in ("source", "train_on", "splits", "split_seed", "exclude", "image_size", "max_bad")),
    *(f"model.{name}" for name in ("name", "width", "stem", "gender_to_age", "age_hidden", "dropout")),
    *(f"optimizer.{name}" for name in ("lr", "weight_decay", "ema", "warmup", "final", "clip_norm")),
    *(f"loss.{name}" for name in ("age_weight", "gender_weight", "label_smoothing", "age_spread")),
    *(f"augment.{name}" for name in config_lib.default().augment if name != "mixup"),
)
WITHOUT_EFFECT = (
    "checkpoint.",
    "log.",
    "train.",
    "eval.batch_size",
    "eval.every_epochs",
    "eval.views",
    "deterministic",
)
WITHOUT_EFFECT += ("data.cache_dir", "data.num_workers", "parallel")  # on what is compared


def augment(images, group):
    """Augment as `agegender_jax.data.augment` but for the random numbers: uint8 [B, S, S, 3] -> float32 in [0, 255]."""
    if group["crop"] or group["expand"] or group["aspect"] or group["rotation"]:
        images = resample(images, group)
        group = group | {"flip": False, "shift": 0.0}
    images = torch_steps.augment(images, group)
    count, side = images.shape[:2]
    grey = torch.rand(count, 1, 1, 1) < group["grey"]
    images = torch.where(grey, images.mean(-1, keepdim=True), images)
    area = 0.02 + 0.18 * torch.rand(count)
    aspect = 3.3 ** (2 * torch.rand(count) - 1)
    size = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], 1).clamp(max=1)
    corner = torch.rand(count, 2) * (1 - size)
    pixel = torch.arange(side)
    inside = (corner[..., None] * side <= pixel) & (pixel < (corner + size)[..., None] * side)  # [B, 2, S]
    hidden = inside[:, 0, :, None, None] & inside[:, 1, None, :, None] & (torch.rand(count, 1, 1, 1) < group["erasing"])
    return torch.where(hidden, 255 * torch.rand(count, 1, 1, 3), images)


def resample(images, group):
    """Resample a random window of each image: mirrored, rotated, its edges reflected."""
    count, uniform = len(images), lambda: 2 * torch.rand(len(images)) - 1
    area = 1 + ((group["expand"] + group["crop"]) * uniform() + group["expand"] - group["crop"]) / 2
    aspect = (1 + group["aspect"]) ** uniform()
    height, width = (area / aspect).sqrt(), (area * aspect).sqrt()
    y, x = ((1 - side).abs() * uniform() + 2 * group["shift"] * uniform() for side in (height, width))  # from -1 to 1
    angle = torch.deg2rad(group["rotation"] * uniform())
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if group["flip"] else torch.ones(count)
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([cos * width * mirror, -sin * height, x], 1),
        torch.stack([sin * width * mirror, cos * height, y], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), (count, 3, *images.shape[1:3]), align_corners=False)
    images = images.permute(0, 3, 1, 2).float()
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False).permute(0, 2, 3, 1)


class Net(torch.nn.Module):
    """The net with dropout before both heads, uint8 or float images [B, S, S, 3] -> logits."""

    def __init__(self, config):
        super().__init__()
        model = config["model"]
        options = {name: model[name] for name in ("name", "width", "stem", "gender_to_age", "age_hidden")}
        self.net = torch_nets.build(**options, num_age_classes=NUM_AGE_BUCKETS, image_size=config["data"]["image_size"])
        self.net.backbone.register_forward_hook(lambda net, args, out: F.dropout(out, model["dropout"], net.training))

    def forward(self, images):
        images = (images.float() / 255 - torch.tensor(data.IMAGENET_MEAN)) / torch.tensor(data.IMAGENET_STD)
        return self.net(images.permute(0, 3, 1, 2))


class Training:
    """Net, moving average, optimiser and the number of epochs done, saved after each."""

    def __init__(self, config, steps_per_epoch):
        fields, self.config, self.steps_per_epoch = config["optimizer"], config, steps_per_epoch
        torch.manual_seed(config["seed"])
        self.net = Net(config)
        self.average = copy.deepcopy(self.net).eval()
        kernels = [p for p in self.net.parameters() if p.ndim > 1]
        others = [p for p in self.net.parameters() if p.ndim <= 1]
        groups = [{"params": kernels, "weight_decay": fields["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, fields["lr"])
        self.epoch, self.step, self.rows = 0, 0, []

    def rate(self):
        fields, total = self.config["optimizer"], self.steps_per_epoch * self.config["num_epochs"]
        warmup = round(fields["warmup"] * total)
        if self.step < warmup:
            return fields["lr"] * (1 + self.step) / (warmup + 1)
        progress = (self.step - warmup) / max(total - warmup, 1)
        return fields["lr"] * (fields["final"] + (1 - fields["final"]) * (1 + math.cos(math.pi * progress)) / 2)

    def train_step(self, images, age, gender):
        config, loss = self.config, self.config["loss"]
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        age_logits, gender_logits = self.net(augment(images, config["augment"]))
        pairs = ((loss["age_weight"], age_logits, age), (loss["gender_weight"], gender_logits, gender))
        total = sum(w * F.cross_entropy(logits, of, label_smoothing=loss["label_smoothing"]) for w, logits, of in pairs)
        self.optimizer.zero_grad()
        total.backward()
        if config["optimizer"]["clip_norm"]:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), config["optimizer"]["clip_norm"])
        self.optimizer.step()
        decay = min(config["optimizer"]["ema"], (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for own, average in zip(self.net.state_dict().values(), self.average.state_dict().values(), strict=True):
                average.copy_(own if not own.is_floating_point() else average * decay + own * (1 - decay))
        self.step += 1

    def save(self, path):
        state = {"net": self.net.state_dict(), "average": self.average.state_dict(), "epoch": self.epoch}
        state |= {"optimizer": self.optimizer.state_dict(), "step": self.step, "rows": self.rows}
        state["device"] = torch.get_default_device().type
        torch.save(state | {"random": random().get_rng_state()}, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def load(self, path):
        state = torch.load(path, weights_only=True, map_location="cpu")
        if (now := torch.get_default_device().type) != (then := state.get("device", "cpu")):
            raise ValueError(f"{path} was begun with --device={then}, not {now}")
        for name in ("net", "average", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]
        random().set_rng_state(state["random"])


def random():
    """Return the module whose generator draws on the default device."""
    return torch.cuda if torch.get_default_device().type == "cuda" else torch


def on_device(array):
    """Return a numpy array as a tensor on the default device."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(torch.get_default_device())


@torch.inference_mode()
def predict(net, faces, images, split):
    """Return the probabilities (age, gender) of the images of a split as float32 arrays [N, 12] and [N, 2]."""
    where = faces.indices(split)
    logits = [net(on_device(images[part])) for part in np.array_split(where, max(1, len(where) // 256))]
    return [torch.cat(parts).softmax(-1).cpu().numpy() for parts in zip(*logits, strict=True)]


def scores(probs, faces, split):
    return metrics.scores(*probs, *faces.targets(split)) | metrics.losses(*probs, *faces.targets(split))


def comparison(run, config, probs, faces):
    """Return the scores on test of the last step of a run with the same config, and the differences to `probs`.

    `outcomes` has the scores of each image, ours and PyTorch's, and `group` says which images are near-duplicates.

    Raises:
      ValueError: the run has another recipe, other images or another split.
    """
    workdir, theirs, here = Workdir(run), json.loads((run / "config.json").read_text()), config_lib.to_dict(config)
    unlike = [text for text in config_lib.resume_difference(theirs, here) if not text.startswith("eval.")]
    of = {
        "epochs": lambda config: config["num_epochs"],
        "steps": lambda config: config["num_steps"],
        "bn_batches": lambda config: config["eval"].get("bn_batches", 0),
        "splits": lambda config: config["data"]["splits"],
    }
    unlike += [f"{name}: {get(theirs)!r} -> {get(here)!r}" for name, get in of.items() if get(theirs) != get(here)]
    fingerprint = json.loads((run / "run.json").read_text())["source"]["fingerprint"]
    if unlike or fingerprint != faces.prepared.fingerprint:
        raise ValueError(f"{run} is no counterpart: {'; '.join(unlike) or 'it has other images'}")
    with Progress() as progress:
        member = predict_member(workdir, "latest", faces, "test", "ours", progress, calibrate=False, views="none")
    own = (member.probs.age, member.probs.gender)
    outcomes = [metrics.outcomes(*each, *faces.targets("test")) for each in (own, probs)]
    result = {
        "step": member.step,
        "test": scores(own, faces, "test"),
        "outcomes": {name: [np.asarray(of[name]).tolist() for of in outcomes] for name in SCORES},
        "group": faces.prepared.group[faces.indices("test")].tolist(),
    }
    return result | {"minus_torch": differences([result])}


def differences(results):
    """Return ours minus PyTorch's on test, with intervals over images and the seeds of `results` of `comparison`."""
    pairs = {name: np.array([of["outcomes"][name] for of in results]).swapaxes(0, 1) for name in SCORES}
    return {name: metrics.compare(*pair, np.array(results[0]["group"])) for name, pair in pairs.items()}


def pooled(results):
    """Return the results of several seeds as one, with the differences over all of them.

    Raises:
      ValueError: they differ in more than the seed, two have the same seed, or one has no counterpart.
    """
    if not all("against" in of for of in results):
        raise ValueError("a result was made without --against")
    if len({of["config"]["seed"] for of in results}) < len(results):
        raise ValueError("two results have the same seed")
    first, against = results[0], [of["against"] for of in results]
    for of in results:
        same = of["config"] | {"seed": first["config"]["seed"]} == first["config"]
        if not same or of["fingerprint"] != first["fingerprint"]:
            raise ValueError("the results are of different recipes or images")
    runs = [
        {
            "seed": of["config"]["seed"],
            "val": [row for row in of["val"] if row["epoch"] % 5 == 0 or row is of["val"][-1]],
            "test": of["test"],
            "against": {name: of["against"][name] for name in ("step", "test", "minus_torch")},
        }
        for of in results
    ]
    shared = {name: first[name] for name in ("config", "torch", "threads", "device", "fingerprint")}
    return shared | {"runs": runs, "minus_torch": differences(against)}


def check(config):
    """Raise ValueError for a setting that only the JAX side has."""
    usual = dict(config_lib.flat(config_lib.default()))
    for name, value in config_lib.flat(config):
        if value != usual[name] and name not in IMPLEMENTED and not name.startswith(WITHOUT_EFFECT):
            raise ValueError(f"{name} is {value!r}; PyTorch's side has {usual[name]!r} only")


def train(config, faces, workdir, until=None):
    """Train to the end, or to the epoch `until`, or resume; return the `Training`."""
    config = config.to_dict()
    images = faces.prepared.images(config["data"]["image_size"])
    where, size = faces.indices("train"), config["batch_size"]
    training, path = Training(config, len(where) // size), workdir / "training.pt"
    if path.exists():
        training.load(path)
    age, gender = faces.prepared.age[:, 0], faces.prepared.gender
    if (age != faces.prepared.age[:, 1])[where].any():
        raise ValueError("some labels are ranges of age buckets; PyTorch's side has single buckets only")
    while training.epoch < (until or config["num_epochs"]):
        start, order = time.perf_counter(), np.random.default_rng((config["seed"], training.epoch)).permutation(where)
        training.net.train()
        for rows in order[: len(order) // size * size].reshape(-1, size):
            batch = (on_device(of[rows]) for of in (images, age, gender))
            training.train_step(*(x if x.ndim > 1 else x.long() for x in batch))
        training.epoch += 1
        net = training.average if config["optimizer"]["ema"] else training.net.eval()
        row = {
            "epoch": training.epoch,
            "seconds": round(time.perf_counter() - start, 1),
            **scores(predict(net, faces, images, "val"), faces, "val"),
        }
        training.rows.append(row)
        training.save(path)
        print(json.dumps(row), flush=True)
    return training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="resnet:18", help="a config of the library and its variants")
    parser.add_argument("--source")
    parser.add_argument("--workdir", type=pathlib.Path)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field, its value as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test", action="store_true", help="score the test split at the end")
    parser.add_argument("--against", type=pathlib.Path, help="a workdir of launch.train with the same config")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--pool", default="", help="workdirs of finished runs with different seeds, with commas")
    args = parser.parse_args()
    if args.pool:
        folders = [pathlib.Path(folder) for folder in args.pool.split(",")]
        results = pooled([json.loads((folder / "results.json").read_text()) for folder in folders])
        result_files.write(result_files.RESULTS / f"{NAME}.json", results)
        print(tables.control(results))
        return
    if not args.source or not args.workdir:
        parser.error("--source and --workdir are needed, or --pool")
    name, _, variant = args.config.partition(":")
    config = importlib.import_module(f"agegender_jax.configs.{name}").get_config(variant)
    fields = {field: json.loads(value) for field, _, value in (text.partition("=") for text in args.set)}
    config.update_from_flattened_dict(fields | {"seed": args.seed, "data.source": args.source})
    config_lib.validate(config)
    check(config)
    args.workdir.mkdir(parents=True, exist_ok=True)
    torch.set_default_device(args.device)
    faces = dataset.load_dataset(config)
    training = train(config, faces, args.workdir)
    config.data.source = pathlib.Path(args.source).name
    results = {
        "config": config.to_dict(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": args.device,
    }
    results |= {"fingerprint": faces.prepared.fingerprint, "val": training.rows}
    if args.test or args.against:
        net = training.average if config.optimizer.ema else training.net.eval()
        probs = predict(net, faces, faces.prepared.images(config.data.image_size), "test")
        results["test"] = scores(probs, faces, "test")
    if args.against:
        results["against"] = comparison(args.against, config, probs, faces)
    result_files.write(args.workdir / "results.json", results)


if __name__ == "__main__":
    guard(main)
