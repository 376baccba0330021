"""The measurements of the campaigns."""

import dataclasses
import shlex
from collections.abc import Iterator

from agegender_jax import models

WITHOUT_TORCH = ("caffenet", "vgg16", "googlenet", "deep_attention", "plain_cnn")  # nets that torch_nets.py lacks
TINY = {
    "model.name": "levi_hassner",
    "model.width": 0.125,
    "data.image_size": 32,
    "batch_size": 8,
    "eval.batch_size": 8,
}


@dataclasses.dataclass(frozen=True)
class Point:
    """One measurement: `python -m <program> --config=<config> --config.FIELD=VALUE --FLAG=VALUE`.

    Attributes:
      fields: of the config; without fields there is no --config.
      flags: of the program.
      seconds: approximate duration.
      config: config file and variants.
    """

    program: str
    fields: dict = dataclasses.field(default_factory=dict)
    flags: dict = dataclasses.field(default_factory=dict)
    seconds: float = 120.0
    config: str = "configs/ran.py"

    @property
    def arguments(self) -> list[str]:
        config = [f"--config={self.config}"] if self.fields else []
        fields = [f"--config.{name}={value}" for name, value in self.fields.items()]
        return [*config, *fields, *(f"--{name}={value}" for name, value in self.flags.items())]

    @property
    def command(self) -> str:
        """The command line, which is also the key in the results."""
        return shlex.join(["python", "-m", self.program, *self.arguments])


def bench(what: str, model: str, size: int, batch: int, dtype: str = "float32", steps: int = 20, **flags) -> Point:
    fields = {"model.name": model, "data.image_size": size, "model.dtype": dtype}
    fields["eval.batch_size" if what == "evaluate" else "batch_size"] = batch
    seconds = 240.0 if model.startswith("ran") else 180.0  # torch.compile and XLA's autotuning, before any step
    return Point("launch.benchmark", fields, {"what": what, "steps": steps, "against": "torch", **flags}, seconds)


def cpu_points() -> Iterator[Point]:
    """Yield training and evaluation against PyTorch on CPUs, after the machine's limits."""
    nets = ("resnet18", "resnet50", "ran56")
    yield Point("benchmarks.limits")
    for size, batch, steps in ((64, 16, 30), (96, 16, 20), (128, 16, 20), (64, 64, 10), (96, 64, 10), (200, 16, 10)):
        yield from (bench("train", net, size, batch, steps=steps) for net in nets)
    for size in (64, 96, 128):
        yield from (bench("evaluate", net, size, 64) for net in nets)


def fit_points() -> Iterator[Point]:
    """Yield small jobs measured against their step alone."""
    for variant, batch, steps in (("resnet", 16, 1800), ("resnet", 256, 192), ("ran", 16, 360), ("ran", 256, 36)):
        flags = {"what": "fit", "steps": steps}
        yield Point("launch.benchmark", {"batch_size": batch}, flags, config=f"configs/quickstart.py:{variant}")


def gpu_points(source: str) -> Iterator[Point]:
    """Yield the GPU measurements, most important first."""
    nets = ("ran56", "resnet50")
    for dtype in ("bfloat16", "float32"):
        for batch in (256, 16):
            yield from (bench("train", net, 224, batch, dtype, steps=50) for net in nets)
    for dtype in ("bfloat16", "float32"):
        yield from (bench("evaluate", net, 224, 256, dtype, steps=50) for net in nets)
    yield Point("benchmarks.limits")
    for batch in (256, 16):
        for net in nets:
            fields = bench("train", net, 224, batch, "bfloat16").fields
            yield Point("benchmarks.kernels", fields, {"steps": 10})
    faces = {"model.name": "ran56", "data.image_size": 200, "data.source": source}
    fed = faces | {"batch_size": 256}
    yield Point(
        "launch.benchmark", fed, {"what": "input", "steps": 100}, seconds=300
    )  # includes generating and preparing faces
    for dtype in ("bfloat16", "float32"):
        for batch in (16, 256):
            fed = faces | {"batch_size": batch, "model.dtype": dtype}
            yield Point("benchmarks.job", fed, seconds=360)
            yield Point("launch.benchmark", fed, {"what": "fit", "steps": 90}, seconds=240)
    for net in models.list():
        if net not in nets:
            point = bench("train", net, 32 if net.endswith("_cifar") else 224, 256, "bfloat16", steps=50)
            if net in WITHOUT_TORCH:
                del point.flags["against"]
            yield point


def tiny(points: Iterator[Point]) -> Iterator[Point]:
    """Yield one small point of each kind without PyTorch and without data, for testing."""
    seen = set()
    for point in points:
        kind = (point.program, point.flags.get("what"))
        if kind not in seen:
            seen.add(kind)
            faces = {"data.source": "synthetic:100"} if "data.source" in point.fields else {}
            flags = {name: value for name, value in point.flags.items() if name != "against"}
            flags |= {"steps": 2} if "steps" in flags else {}
            yield Point(point.program, point.fields and point.fields | TINY | faces, flags)
