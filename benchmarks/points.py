"""The measurements of the campaigns."""

import dataclasses
import math
import pathlib
import shlex
from collections.abc import Iterable, Iterator

from agegender_jax import models

WITHOUT_TORCH = ("caffenet", "vgg16", "googlenet", "deep_attention", "plain_cnn")  # nets that torch_nets.py lacks
SMALL = {"model.width": 0.125, "data.image_size": 32, "batch_size": 8, "eval.batch_size": 8}
TINY = {"model.name": "levi_hassner"} | SMALL  # the net that is compiled soonest

LIMIT = 178.0  # seconds of a GPU point
REQUIRED, WANTED, OTHER = range(3)  # stages of the GPU campaign
DATA = "runs/gpu/data"  # where gpu.sh copies the packed faces
CROP_PART1, FAIRFACE = f"{DATA}/crop_part1.zip", f"{DATA}/fairface.zip"
CROP_PART1_128, UTKFACE = f"{DATA}/128/crop_part1.zip", f"{DATA}/128/UTKFace.zip"
FAIRFACE_RECIPE = {  # at the size of the chips; a third of the epochs of `best`, to fit into one or two starts
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
      stage: points of lower stages come first.
    """

    program: str
    fields: dict = dataclasses.field(default_factory=dict)
    flags: dict = dataclasses.field(default_factory=dict)
    seconds: float = 120.0
    config: str = "configs/ran.py"
    limit: float = math.inf
    needs: tuple[str, ...] = ()
    stage: int = 0

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


def gpu_points(source: str = CROP_PART1) -> list[Point]:
    """Return the GPU measurements, most important first, each ended after LIMIT seconds or earlier.

    Args:
      source: of the paper's job.
    """
    stages = {REQUIRED: required, WANTED: wanted, OTHER: others}
    return [
        dataclasses.replace(point, limit=min(point.limit, LIMIT), stage=stage)
        for stage, points in stages.items()
        for point in points(source)
    ]


def required(source: str) -> Iterator[Point]:
    """Yield one measurement of each kind, the surest first: together, they fit into 11 minutes."""
    yield Point("benchmarks.limits", seconds=25, limit=40.0)
    yield full_size("crop_part1", "resnet", CROP_PART1, {"eval.every_epochs": 5}, seconds=110)
    yield full_size("crop_part1", "ran", CROP_PART1, {"eval.every_epochs": 5})
    resumed = {"data.source": CROP_PART1, "data.image_size": 64}
    yield Point("benchmarks.resume", resumed, seconds=110, config="configs/best.py:resnet,gpu", needs=(CROP_PART1,))
    yield bench("train", "resnet50", 224, 256, "bfloat16", seconds=90)
    yield job("resnet18", source, 16, "bfloat16", seconds=70)
    yield bench("evaluate", "resnet50", 224, 256, "bfloat16", seconds=50)


def wanted(source: str) -> Iterator[Point]:
    """Yield the same with Attention-56 and batches of 16, and trainings on more faces."""
    yield bench("train", "ran56", 224, 256, "bfloat16", seconds=150)
    yield job("ran56", source, 16, "bfloat16")
    yield bench("evaluate", "ran56", 224, 256, "bfloat16", seconds=75)
    yield bench("train", "resnet50", 224, 16, "bfloat16", seconds=90)
    yield bench("train", "ran56", 224, 16, "bfloat16", seconds=150)
    utkface = {"num_epochs": 25, "eval.every_epochs": 5}
    for net in ("resnet", "ran"):
        yield full_size("fairface", net, FAIRFACE, FAIRFACE_RECIPE)
        yield full_size("utkface", net, CROP_PART1_128, utkface, UTKFACE)


def others(source: str) -> Iterator[Point]:
    """Yield float32 (TF32), the largest kernels, the input, further jobs, and all other nets."""
    nets = ("resnet50", "ran56")
    for batch in (256, 16):
        yield from (bench("train", net, 224, batch, "float32", seconds=150) for net in nets)
    yield from (bench("evaluate", net, 224, 256, "float32", seconds=90) for net in nets)
    for batch in (256, 16):
        for net in nets:
            fields = bench("train", net, 224, batch, "bfloat16").fields
            yield Point("benchmarks.kernels", fields, {"steps": 10})
    faces = {"model.name": "ran56", "data.image_size": 200, "data.source": source}
    needs = needed(source)
    yield Point("launch.benchmark", faces | {"batch_size": 256}, {"what": "input", "steps": 100}, needs=needs)
    for dtype in ("bfloat16", "float32"):
        for batch in (16, 256):
            if (dtype, batch) != ("bfloat16", 16):
                yield job("ran56", source, batch, dtype)
            fed = faces | {"batch_size": batch, "model.dtype": dtype}
            yield Point("launch.benchmark", fed, {"what": "fit", "steps": 90}, seconds=150, needs=needs)
    for net in models.names():
        if net not in nets:
            point = bench("train", net, 32 if net.endswith("_cifar") else 224, 256, "bfloat16", seconds=150)
            yield without_torch(point) if net in WITHOUT_TORCH else point


def full_size(name: str, net: str, source: str, fields: dict, train_on: str = "", seconds: float = 120.0) -> Point:
    """Return the training of a net of configs/best.py on a source; it continues after LIMIT seconds.

    Args:
      net: variant of the config.
      seconds: worth starting it for.
    """
    flags = {"net": net, "source": source, "folder": f"runs/gpu/{name}"} | ({"train_on": train_on} if train_on else {})
    needs = (source, train_on) if train_on else (source,)
    fields = {"log.figures": False} | fields
    return Point("benchmarks.full_size", fields, flags, seconds=seconds, config="", needs=needs)


def job(net: str, source: str, batch: int, dtype: str, seconds: float = 150.0) -> Point:
    """Return the paper's whole training of a net, of which two epochs are measured."""
    fields = {"model.name": net, "data.image_size": 200, "data.source": source, "log.figures": False}
    fields |= {"batch_size": batch, "model.dtype": dtype}
    return Point("benchmarks.job", fields, seconds=seconds, needs=needed(source))


def needed(source: str) -> tuple[str, ...]:
    """Return the file that a source needs; one that the user has named may be anywhere."""
    return (source,) if source == CROP_PART1 else ()


def without_torch(point: Point) -> Point:
    """Return the point without the comparison with PyTorch."""
    return dataclasses.replace(point, flags={name: value for name, value in point.flags.items() if name != "against"})


def tiny(points: Iterable[Point], folder: pathlib.Path) -> Iterator[Point]:
    """Yield one small point of each kind, of each net in full_size, on synthetic faces, for testing.

    Args:
      folder: of runs.
    """
    seen = set()
    for point in points:
        kind = (point.program, point.flags.get("what"), point.flags.get("net"))
        if kind not in seen:
            seen.add(kind)
            faces = {"data.source": "synthetic:100"} if "data.source" in point.fields else {}
            flags = point.flags | ({"steps": 2} if "steps" in point.flags else {})
            if point.program == "benchmarks.full_size":
                flags |= {"source": "synthetic:100", "folder": str(folder / "faces")}
                faces = {"num_epochs": 2, "eval.every_epochs": 2, "log.every_steps": 5}
            alone = point.program in ("benchmarks.kernels", "launch.benchmark") and "against" not in flags
            fields = point.fields and point.fields | (TINY if alone else SMALL) | faces
            yield dataclasses.replace(point, fields=fields, flags=flags, needs=(), limit=math.inf)
