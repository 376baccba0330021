"""The benchmark's lines and its PyTorch side, on tiny nets: nothing here depends on the clock."""

import importlib.util

import jax
import numpy as np
import programs
import pytest
from benchmark_line import check_line
from programs import check

from agegender_jax import models, synthetic
from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from agegender_jax.models import sizes
from benchmarks import campaign, points, shared_gpu, tables, throughput, timing, torch_process

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


def slow_unless(name, *quick):
    return pytest.param(name, marks=() if name in quick else pytest.mark.slow)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    config = ran.get_config()
    config.update_from_flattened_dict(points.TINY)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"))
    return config


@pytest.mark.parametrize("what", ["train", "evaluate", "input"])
def test_each_measurement_has_its_fields(what, config):
    check_line(what, throughput.measure(what, config, 3))


def test_flops_are_those_of_the_published_multiply_adds():
    config = ran.get_config()
    config.model.name, config.data.image_size = "resnet18", 224
    heads = 512 * 2 + (512 + 2) * 12
    published = sizes.PUBLISHED["resnet18"][3] - 512 * 1000 + heads
    assert throughput.steps.gflops("evaluate", config) == pytest.approx(2e-9 * config.eval.batch_size * published)
    assert throughput.steps.gflops("train", config) == pytest.approx(6e-9 * config.batch_size * published)


@pytest.mark.slow
def test_a_training_step_per_call(config, monkeypatch):
    """Each timed step is one of launch.train's driver: the state counts it."""
    states = []
    monkeypatch.setattr(jax, "block_until_ready", lambda x, wait=jax.block_until_ready: states.append(x) or wait(x))
    throughput.measure("train", config, 2)
    assert [int(state.step) for state in states[-1:]] == [timing.WARMUP + 2]


def test_nested_compilations_count_once():
    compilations = timing.Compilations()
    compilations._spans = [(1.0, 2.0), (0.5, 3.0), (5.0, 6.0), (5.5, 7.0)]
    assert compilations.seconds == 4.5


@pytest.mark.parametrize(
    "arguments, texts",
    [
        (["--what=train", "--steps=0"], ["--steps must be at least 1"]),
        (["--what=fit", "--against=torch"], ["--against compares train and evaluate, not fit"]),
        (["--what=train", "--against=tensorflow"], ["--against=tensorflow", "<torch>"]),
        (["--what=trian"], ["--what=trian", "train|input|fit|evaluate"]),
        ([], ["--what is missing"]),
    ],
)
def test_flag_errors(arguments, texts):
    check(programs.run("benchmark", "--config=configs/ran.py", *arguments), 2, *texts)


def test_without_pytorch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install torch==2.13.0"):
        torch_process.check()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("optimizer.name", "sgd"), ("optimizer.freeze", 5), ("optimizer.layer_decay", 0.5), ("remat", True)),
        *(("loss.teacher", "fairface_resnet18"), ("model.head", "elm"), ("augment.mixup", 0.2), ("accumulate", 2)),
    ],
)
def test_fields_that_pytorch_lacks_are_refused(field, value):
    """The two steps would not do the same work."""
    config = ran.get_config()
    torch_process.check_fields(config)
    config.update_from_flattened_dict({"optimizer.lr": 0.1, "model.dtype": "bfloat16", "batch_size": 256})
    torch_process.check_fields(config)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ConfigError, match=f"supports only {field}="):
        torch_process.check_fields(config)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"accumulate": 3, "batch_size": 16}, "accumulate"),
        ({"batch_size": 1}, "batch_size"),
        ({"model.name": "region_sift", "model.gender_to_age": "none", "model.width": 1.0}, "is solved, not trained"),
        ({"model.head": "ridge", "model.gender_to_age": "none"}, "is solved, not trained"),
    ],
)
def test_what_training_refuses_is_not_measured(fields, text, config):
    other = config.copy_and_resolve_references()
    other.update_from_flattened_dict(fields)
    with pytest.raises(ConfigError, match=text):
        throughput.measure("train", other, 2)


@needs_torch
@pytest.mark.parametrize(
    "name",
    [slow_unless(name, "resnet18", "levi_hassner") for name in models.names() if name not in points.WITHOUT_TORCH],
)
def test_as_many_parameters_in_pytorch(name):
    import torch

    from benchmarks import torch_nets

    assert (*torch_nets.NAMES, *points.WITHOUT_TORCH) == models.names()
    other = {"width": 0.25, "gender_to_age": "none", "age_hidden": 7}
    more = {"ran56": [other | {"stem": "small"}], "resnet50": [other | {"stem": "small"}], "levi_hassner": [other]}
    for options in ({}, *more.get(name, [])):
        config = ran.get_config()
        config.model.update(name=name, **options)
        config.data.image_size = 64
        with torch.device("meta"):
            net = torch_nets.build(name, num_age_classes=12, image_size=64, **options)
        assert sum(p.numel() for p in net.parameters()) == throughput.steps.parameters(config)


@needs_torch
@pytest.mark.parametrize(
    "name, feed",
    [
        pytest.param("ran56", "probs", marks=pytest.mark.slow),
        pytest.param("ran92_cifar", "hard", marks=pytest.mark.slow),
        ("levi_hassner", "logits"),
    ],
)
def test_the_same_predictions_in_pytorch(name, feed):
    """On an odd map, where pooling and resizing show; the ResNets are compared in test_torch_parity."""
    import torch

    from agegender_jax.models import torchvision_names
    from benchmarks import torch_nets

    size = 72 if name == "ran56" else 36
    net = models.build(name, num_age_classes=12, gender_to_age=feed, width=0.125)
    images = np.random.RandomState(0).standard_normal((2, size, size, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), images, train=False))
    draw, state = np.random.RandomState(1), {}

    def value(path, leaf):
        *_, kind = path = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        ours = 0.3 * draw.standard_normal(leaf.shape).astype(np.float32)
        ours = 1 + np.abs(ours) if kind in ("var", "scale") else ours
        ours = ours / np.sqrt(np.prod(leaf.shape[:-1])) * 4 if kind == "kernel" else ours
        theirs = {4: lambda: ours.transpose(3, 2, 0, 1), 2: lambda: ours.T}.get(ours.ndim, lambda: ours)()
        state[".".join([*path[1:-1], torchvision_names.LEAF[kind]])] = torch.from_numpy(theirs.copy())
        return ours

    variables = jax.tree_util.tree_map_with_path(value, shapes)
    ours = jax.jit(lambda v: net.apply(v, images, train=False))(variables)
    torch_side = torch_nets.build(name, num_age_classes=12, gender_to_age=feed, width=0.125, image_size=size).eval()
    missing = torch_side.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    with torch.inference_mode():
        age, gender = torch_side(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.ptp(ours.age_logits) > 1e-3
    for actual, expected in ((ours.age_logits, age), (ours.gender_logits, gender)):
        np.testing.assert_allclose(actual, expected.numpy(), atol=1e-4 * np.abs(expected.numpy()).max())


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_in_turns_with_pytorch(what, config, monkeypatch):
    monkeypatch.setattr(throughput, "PAUSE", 0.0)
    line = throughput.measure(what, config, 7, against_torch=True)
    assert line["steps"] == 7 and line["torch"]["threads"] > 0 and not line["torch"]["compiled"]
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / line["torch"]["images_per_second"])
    assert 0 < line["block_ratios"]["min"] <= line["block_ratios"]["max"]


STAND_IN = """
import json, sys
sys.stdin.readline()
print(json.dumps({"parameters": 7, "version": "stand-in"}), flush=True)
for first, line in enumerate(sys.stdin):
    seconds = [3.0 if not (first or i) else 0.5 for i in range(int(line))]
    answer = {"seconds": seconds, "peak_memory_mb": 1.0, "compile_cached": False}
    print(json.dumps(answer if first < 7 else {"error": "OutOfMemoryError: CUDA out of memory."}), flush=True)
"""


def test_in_turns_with_a_stand_in(config, monkeypatch, tmp_path):
    """Another program replaces torch_steps.py; its output is reported beside the measurements made here."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "torch_steps.py").write_text(STAND_IN)
    monkeypatch.setattr(torch_process, "ROOT", tmp_path)
    monkeypatch.setattr(torch_process, "check", lambda: None)
    monkeypatch.setattr(throughput, "PAUSE", 0.0)
    monkeypatch.setattr(throughput.steps, "parameters", lambda config: 7)
    monkeypatch.setitem(throughput.STEPS, "train", lambda config: lambda: None)
    line = throughput.measure("train", config, 5, against_torch=True)
    assert line["torch"] == {
        "images_per_second": 16.0,
        "step_ms": {"min": 500.0, "median": 500.0, "max": 500.0},
        "compile_s": 2.5,
        "version": "stand-in",
        "peak_memory_mb": 1.0,
        "compile_cached": False,
    }
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0) and "note" not in line
    with torch_process.TorchProcess("train", config, 7, False) as torch_side:
        for _ in range(7):
            torch_side.run(1)
        with pytest.raises(torch_process.OutOfMemory, match="PyTorch fails: OutOfMemoryError: CUDA"):
            torch_side.run(1)


class FakeTorch:
    """PyTorch's side with memory for so many calls; a step takes half a second."""

    def __init__(self, calls):
        self.calls, self.info = calls, {"version": "x"}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, count):
        self.calls -= 1
        if self.calls < 0:
            raise torch_process.OutOfMemory("PyTorch fails: CUDA out of memory", "--against=torch", "another config")
        return [0.5] * count


@pytest.fixture
def on_a_gpu(config, monkeypatch):
    """in_turns over 5 blocks of 2 steps as on a GPU, with so many steps here and calls of PyTorch's side that fit."""

    def measure(steps, calls, message="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"):
        def step():
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise jax.errors.JaxRuntimeError(message)

        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(throughput, "PAUSE", 0.0)
        monkeypatch.setattr(torch_process, "TorchProcess", lambda *_: FakeTorch(calls))
        monkeypatch.setitem(throughput.STEPS, "train", lambda config: step)
        return throughput.in_turns("train", config, 10, None)

    return measure


ALL = 100
NO_MEMORY = "no more memory here: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_out_of_memory_in_jax_keeps_the_numbers_of_pytorch(on_a_gpu, steps):
    line = on_a_gpu(steps, ALL)
    assert line["note"] == NO_MEMORY and line["torch"]["images_per_second"] == 16.0
    nothing = ("images_per_second", "step_ms", "compile_s", "gflops_per_second", "ratio_to_torch")
    assert [line[key] for key in nothing] == [None] * 5 and line["steps"] == 0 and "block_ratios" not in line
    row = tables.throughput({"points": {"x": {"result": line}}}).splitlines()[-1]
    assert row.startswith("| train | levi_hassner | 32 | 8 | float32 |  | 16.0 |  |  |  |  |  | ")
    assert campaign.summary(line) == NO_MEMORY


def test_out_of_memory_in_jax_after_some_blocks(on_a_gpu):
    line = on_a_gpu(timing.WARMUP + 2 * 3 + 1, ALL)
    assert line["note"] == NO_MEMORY and line["steps"] == 4
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0)


@pytest.mark.parametrize("calls", [2, 4])
def test_out_of_memory_in_pytorch_while_jax_holds_memory(on_a_gpu, calls):
    line = on_a_gpu(ALL, calls)
    assert line["torch"]["note"].startswith("measured before this process took memory; later PyTorch fails: CUDA out")
    assert line["steps"] == 10 and line["torch"]["images_per_second"] == 16.0 and "note" not in line
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0)


@pytest.mark.parametrize("calls", [0, 1])
def test_out_of_memory_only_in_pytorch(on_a_gpu, calls):
    line = on_a_gpu(ALL, calls)
    assert line["steps"] == 10 and line["images_per_second"] > 0 and line["ratio_to_torch"] is None
    assert line["torch"]["images_per_second"] is None and line["torch"]["note"] == "PyTorch fails: CUDA out of memory"


def test_other_errors_are_not_reported_as_out_of_memory(on_a_gpu):
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        on_a_gpu(0, 0)  # on neither side
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        on_a_gpu(0, ALL, "INTERNAL: no")


@pytest.mark.parametrize(
    "variables, fraction",
    [
        ({}, "0.95"),
        ({"XLA_CLIENT_MEM_FRACTION": "0.5"}, "0.5"),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}, None),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": ""}, "0.95"),
    ],
)
def test_sharing_a_gpu(variables, fraction):
    environment = dict(variables)
    shared_gpu.prepare(environment)
    assert environment.get("XLA_CLIENT_MEM_FRACTION") == fraction
    assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" and variables.items() <= environment.items()


@needs_torch
@pytest.mark.slow
def test_configs_that_the_pytorch_side_refuses(config):
    with pytest.raises(ConfigError, match="parameters in PyTorch, 12 here"):
        torch_process.TorchProcess("train", config, 12, False)
