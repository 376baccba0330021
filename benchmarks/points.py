"""The measurements of the campaigns."""

import dataclasses
import math
import pathlib
import shlex
from collections.abc import Iterator

from agegender_jax import models

WITHOUT_TORCH = ("caffenet", "vgg16", "googlenet", "deep_attention", "plain_cnn")  # nets that torch_nets.py lacks
TINY = {
    "model.name": "levi_hassner",
    "model.width": 0.125,
    "data.image_size": 32,
    "batch_size": 8,
    "augment.mixup": 0.0,
    "eval.batch_size": 8,
}

LIMIT = 178.0  # seconds of a GPU point
DATA = "runs/gpu/data"  # where gpu.sh copies the packed faces
CROP_PART1, FAIRFACE = f"{DATA}/crop_part1.tar.gz", f"{DATA}/fairface.zip"
CROP_PART1_128, UTKFACE = f"{DATA}/128/crop_part1.zip", f"{DATA}/128/UTKFace.zip"
FAIRFACE_RECIPE = {  # that of the weights in the package, at the size of the chips
    "num_epochs": 20,
    "data.image_size": 112,
    "eval.every_epochs": 4,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement: `python -m <program> --config=<config> --config.FIELD=VALUE --FLAG=VALUE`.

    Attributes:
      fields: of the config; without fields there is no --config.
      flags: of the program.
      seconds: approximate duration.
      config: config file and variants; "" for a program that chooses its own.
      limit: seconds after which it is ended.
      needs: files without which it is left out, relative to the repository.
    """

    program: str
    fields: dict = dataclasses.field(default_factory=dict)
    flags: dict = dataclasses.field(default_factory=dict)
    seconds: float = 120.0
    config: str = "configs/ran.py"
    limit: float = math.inf
    needs: tuple[str, ...] = ()

    @property
    def arguments(self) -> list[str]:
        config = [f"--config={self.config}"] if self.fields and self.config else []
        fields = [f"--config.{name}={value}" for name, value in self.fields.items()]
        return [*config, *fields, *(f"--{name}={value}" for name, value in self.flags.items())]

    @property
    def command(self) -> str:
        """The command line, which is also the key in the results."""
        return shlex.join(["python", "-m", self.program, *self.arguments])


def bench(
    what: str,
    model: str,
    size: int,
    batch: int,
    dtype: str = "float32",
    steps: int = 20,
    seconds: float | None = None,
) -> Point:
    fields = {"model.name": model, "data.image_size": size, "model.dtype": dtype}
    fields["eval.batch_size" if what == "evaluate" else "batch_size"] = batch
    seconds = seconds or (240.0 if model.startswith("ran") else 180.0)
    return Point("launch.benchmark", fields, {"what": what, "steps": steps, "against": "torch"}, seconds)


def cpu_points() -> Iterator[Point]:
    """Yield training and evaluation against PyTorch on CPUs, after the machine's limits."""
    nets = ("resnet18", "resnet50", "ran56")
    yield Point("benchmarks.limits")
    for size, batch, steps in ((64, 16, 30), (96, 16, 20), (128, 16, 20), (64, 64, 10), (96, 64, 10)):
        yield from (bench("train", net, size, batch, steps=steps) for net in nets)
    for size in (64, 96, 128):
        yield from (bench("evaluate", net, size, 64) for net in nets)
    yield from (bench("train", net, 200, 16, steps=10) for net in nets)  # the slowest


def fit_points() -> Iterator[Point]:
    """Yield small jobs measured against their step alone."""
    for variant, batch, steps in (("resnet", 16, 1800), ("resnet", 256, 192), ("ran", 16, 360), ("ran", 256, 36)):
        flags = {"what": "fit", "steps": steps}
        yield Point("launch.benchmark", {"batch_size": batch}, flags, config=f"configs/quickstart.py:{variant}")


def gpu_points(source: str) -> Iterator[Point]:
    """Yield the GPU measurements, most important first, each ended after LIMIT seconds.

    Args:
      source: of the paper's job.
    """
    return (dataclasses.replace(point, limit=LIMIT) for point in _gpu_points(source))


def _gpu_points(source: str) -> Iterator[Point]:
    nets = ("ran56", "resnet50")
    yield Point("benchmarks.limits", seconds=40)
    yield full_size("crop_part1", CROP_PART1, {"eval.every_epochs": 5})
    yield full_size("fairface", FAIRFACE, FAIRFACE_RECIPE)
    yield full_size("utkface", CROP_PART1_128, {"num_epochs": 25, "eval.every_epochs": 5}, UTKFACE)
    resumed = {"data.source": CROP_PART1}
    yield Point("benchmarks.resume", resumed, seconds=150, config="configs/best.py:ran,gpu", needs=(CROP_PART1,))
    for batch in (256, 16):
        yield from (bench("train", net, 224, batch, "bfloat16", steps=50, seconds=150) for net in nets)
    faces = {"model.name": "ran56", "data.image_size": 200, "data.source": source}
    job = faces | {"log.figures": False}
    yield Point("benchmarks.job", job | {"batch_size": 16, "model.dtype": "bfloat16"}, seconds=150)
    yield from (bench("evaluate", net, 224, 256, "bfloat16", steps=50, seconds=90) for net in nets)
    for batch in (256, 16):
        yield from (bench("train", net, 224, batch, "float32", steps=50, seconds=150) for net in nets)
    yield from (bench("evaluate", net, 224, 256, "float32", steps=50, seconds=90) for net in nets)
    for batch in (256, 16):
        for net in nets:
            fields = bench("train", net, 224, batch, "bfloat16").fields
            yield Point("benchmarks.kernels", fields, {"steps": 10})
    yield Point("launch.benchmark", faces | {"batch_size": 256}, {"what": "input", "steps": 100})
    for dtype in ("bfloat16", "float32"):
        for batch in (16, 256):
            fed = faces | {"batch_size": batch, "model.dtype": dtype}
            if (dtype, batch) != ("bfloat16", 16):
                yield Point("benchmarks.job", fed | {"log.figures": False}, seconds=150)
            yield Point("launch.benchmark", fed, {"what": "fit", "steps": 90}, seconds=150)
    for net in models.names():
        if net not in nets:
            point = bench("train", net, 32 if net.endswith("_cifar") else 224, 256, "bfloat16", steps=50, seconds=150)
            if net in WITHOUT_TORCH:
                del point.flags["against"]
            yield point


def full_size(name: str, source: str, fields: dict, train_on: str = "") -> Point:
    """Return the training of both nets of configs/best.py on a source, as far as it goes in LIMIT seconds."""
    flags = {"source": source, "folder": f"runs/gpu/{name}"} | ({"train_on": train_on} if train_on else {})
    needs = (source, train_on) if train_on else (source,)
    fields = {"log.figures": False} | fields
    return Point("benchmarks.full_size", fields, flags, seconds=LIMIT, config="", needs=needs)


def tiny(points: Iterator[Point], folder: pathlib.Path) -> Iterator[Point]:
    """Yield one small point of each kind without PyTorch and on synthetic faces, for testing.

    Args:
      folder: of runs.
    """
    seen = set()
    for point in points:
        kind = (point.program, point.flags.get("what"))
        if kind not in seen:
            seen.add(kind)
            faces = {"data.source": "synthetic:100"} if "data.source" in point.fields else {}
            flags = {name: value for name, value in point.flags.items() if name != "against"}
            flags |= {"steps": 2} if "steps" in flags else {}
            if point.program == "benchmarks.full_size":
                flags |= {"source": "synthetic:100", "folder": str(folder / "faces")}
                faces = {"num_epochs": 2, "eval.every_epochs": 2, "log.every_steps": 5}
            fields = point.fields and point.fields | TINY | faces
            yield dataclasses.replace(point, fields=fields, flags=flags, needs=())
