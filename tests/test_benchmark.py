"""The benchmark's lines, its twin in PyTorch, and the campaigns, all tiny: nothing here depends on the clock."""

import gzip
import importlib.util
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import programs
import pytest
from programs import check

from agegender_jax import models
from agegender_jax.data import synthetic
from agegender_jax.errors import ConfigError
from agegender_jax.models import sizes
from agegender_jax.run import benchmark, feeding, rival, shared_gpu, timing
from benchmarks import campaign, job, kernels, layers, machine, points, tables
from configs import ran

KEYS = {
    "what": str,
    "model": str,
    "image_size": int,
    "batch_size": int,
    "dtype": str,
    "device": str,
    "devices": int,
    "images_per_second": float,
    "compile_s": float,
    "peak_memory_mb": float,
}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark")
    synthetic.write_faces(folder / "faces", 60, seed=0, size=32)
    config = ran.get_config()
    config.update_from_flattened_dict(points.TINY)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"))
    return config


@pytest.mark.parametrize("what", ["train", "evaluate", "input"])
def test_the_line(what, config):
    check_line(what, benchmark.measure(what, config, 3))


def check_line(what, line, dtype="float32"):
    assert {key: type(line[key]) for key in KEYS} == KEYS
    expected = (what, "levi_hassner", 32, 8, dtype, "cpu", 1 if what == "evaluate" else jax.device_count())
    assert tuple(line.values())[: len(expected)] == expected
    step = line["step_ms"]
    assert 0 < step["min"] <= step["median"] <= step["max"]
    assert line["ratio_to_torch"] is None and line["versions"]["jax"] == jax.__version__
    assert line["steps"] == (feeding.LOG_LINES if what == "fit" else 3)
    assert line["images_per_second"] > 0 and line["peak_memory_mb"] > 0
    if what in ("train", "evaluate"):
        assert line["images_per_second"] == pytest.approx(1000 * line["batch_size"] / step["median"])
        assert line["gflops_per_second"] == pytest.approx(1000 * line["gflops"] / step["median"])
        assert line["compile_s"] > 0
    if what == "fit":
        ratios = line["block_ratios"]
        assert 0 < ratios["min"] <= line["of_step_alone"] <= ratios["max"]
        assert 0 <= line["data_wait"] <= 1 and line["compile_s"] > 0 and line["start_s"] > 0


def test_flops_are_those_of_the_published_multiply_adds():
    config = ran.get_config()
    config.model.name, config.data.image_size = "resnet18", 224
    heads = 512 * 2 + (512 + 2) * 12
    published = sizes.PUBLISHED["resnet18"][3] - 512 * 1000 + heads
    assert benchmark.steps.gflops("evaluate", config) == pytest.approx(2e-9 * config.eval.batch_size * published)
    assert benchmark.steps.gflops("train", config) == pytest.approx(6e-9 * config.batch_size * published)


def test_a_training_step_per_call(config, monkeypatch):
    """Each timed step is one of launch.train's driver: the state counts it."""
    states = []
    monkeypatch.setattr(jax, "block_until_ready", lambda x, wait=jax.block_until_ready: states.append(x) or wait(x))
    benchmark.measure("train", config, 2)
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
def test_mistakes(arguments, texts):
    check(programs.run("benchmark", "--config=configs/ran.py", *arguments), 2, *texts)


def test_without_pytorch(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install torch==2.13.0"):
        rival.check()


@needs_torch
@pytest.mark.parametrize("name", models.list())
def test_as_many_parameters_in_pytorch(name):
    import torch

    from benchmarks import torch_nets

    assert torch_nets.NAMES == models.list()
    other = {"width": 0.25, "gender_to_age": "none", "age_hidden": 7}
    more = {"ran56": [other | {"stem": "small"}], "resnet50": [other | {"stem": "small"}], "levi_hassner": [other]}
    for options in ({}, *more.get(name, [])):
        config = ran.get_config()
        config.model.update(name=name, **options)
        config.data.image_size = 64
        with torch.device("meta"):
            net = torch_nets.build(name, num_age_classes=12, image_size=64, **options)
        assert sum(p.numel() for p in net.parameters()) == benchmark.steps.parameters(config)


@needs_torch
@pytest.mark.parametrize("name, feed", [("ran56", "probs"), ("ran92_cifar", "hard"), ("levi_hassner", "logits")])
def test_the_same_answers_in_pytorch(name, feed):
    """On an odd map, where pooling and resizing show; the ResNets are compared in test_torch_parity."""
    import torch

    from agegender_jax.models import torchvision
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
        prefix = "backbone." if "backbone" in path else ""
        state[prefix + torchvision.name_of("/".join(path))] = torch.from_numpy(theirs.copy())
        return ours

    variables = jax.tree_util.tree_map_with_path(value, shapes)
    ours = jax.jit(lambda v: net.apply(v, images, train=False))(variables)
    twin = torch_nets.build(name, num_age_classes=12, gender_to_age=feed, width=0.125, image_size=size).eval()
    missing = twin.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all(key.endswith("num_batches_tracked") for key in missing.missing_keys)
    with torch.inference_mode():
        age, gender = twin(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert np.ptp(ours.age_logits) > 1e-3
    for got, want in ((ours.age_logits, age), (ours.gender_logits, gender)):
        np.testing.assert_allclose(got, want.numpy(), atol=1e-4 * np.abs(want.numpy()).max())


@needs_torch
@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_in_turns_with_pytorch(what, config, monkeypatch):
    monkeypatch.setattr(benchmark, "PAUSE", 0.0)
    line = benchmark.measure(what, config, 7, against_torch=True)
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
    """Another program in the place of torch_steps.py: what it says is kept beside what is measured here."""
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "torch_steps.py").write_text(STAND_IN)
    monkeypatch.setattr(rival, "ROOT", tmp_path)
    monkeypatch.setattr(rival, "check", lambda: None)
    monkeypatch.setattr(benchmark, "PAUSE", 0.0)
    monkeypatch.setattr(benchmark.steps, "parameters", lambda config: 7)
    monkeypatch.setitem(benchmark.STEPS, "train", lambda config: lambda: None)
    line = benchmark.measure("train", config, 5, against_torch=True)
    assert line["torch"] == {
        "images_per_second": 16.0,
        "step_ms": {"min": 500.0, "median": 500.0, "max": 500.0},
        "compile_s": 2.5,
        "version": "stand-in",
        "peak_memory_mb": 1.0,
        "compile_cached": False,
    }
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0) and "note" not in line
    with rival.Rival("train", config, 7, False) as twin:
        for _ in range(7):
            twin.run(1)
        with pytest.raises(rival.OutOfMemory, match="PyTorch fails: OutOfMemoryError: CUDA"):
            twin.run(1)


class Twin:
    """PyTorch's side with memory for so many calls; a step takes half a second."""

    def __init__(self, calls):
        self.calls, self.told = calls, {"version": "x"}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def run(self, count):
        self.calls -= 1
        if self.calls < 0:
            raise rival.OutOfMemory("PyTorch fails: CUDA out of memory", "--against=torch", "another config")
        return [0.5] * count


@pytest.fixture
def on_a_gpu(config, monkeypatch):
    """in_turns over 5 blocks of 2 steps as on a GPU, with so many steps here and calls of PyTorch's side that fit."""

    def measure(steps, calls, told="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore"):
        def step():
            nonlocal steps
            steps -= 1
            if steps < 0:
                raise jax.errors.JaxRuntimeError(told)

        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        monkeypatch.setattr(benchmark, "PAUSE", 0.0)
        monkeypatch.setattr(rival, "Rival", lambda *_: Twin(calls))
        monkeypatch.setitem(benchmark.STEPS, "train", lambda config: step)
        return benchmark.in_turns("train", config, 10, None)

    return measure


ALL = 100
NO_MEMORY = "no more memory here: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_no_memory_here_leaves_pytorchs_figures(on_a_gpu, steps):
    line = on_a_gpu(steps, ALL)
    assert line["note"] == NO_MEMORY and line["torch"]["images_per_second"] == 16.0
    nothing = ("images_per_second", "step_ms", "compile_s", "gflops_per_second", "ratio_to_torch")
    assert [line[key] for key in nothing] == [None] * 5 and line["steps"] == 0 and "block_ratios" not in line
    row = tables.throughput({"points": {"x": {"result": line}}}).splitlines()[-1]
    assert row.startswith("| train | levi_hassner | 32 | 8 | float32 |  | 16.0 |  |  |  |  |  | ")
    assert campaign.summary(line) == NO_MEMORY


def test_no_memory_here_after_some_blocks(on_a_gpu):
    line = on_a_gpu(timing.WARMUP + 2 * 3 + 1, ALL)
    assert line["note"] == NO_MEMORY and line["steps"] == 4
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0)


@pytest.mark.parametrize("calls", [2, 4])
def test_no_memory_for_pytorch_beside_this_process(on_a_gpu, calls):
    line = on_a_gpu(ALL, calls)
    assert line["torch"]["note"].startswith("measured before this process took memory; later PyTorch fails: CUDA out")
    assert line["steps"] == 10 and line["torch"]["images_per_second"] == 16.0 and "note" not in line
    assert line["ratio_to_torch"] == pytest.approx(line["images_per_second"] / 16.0)


@pytest.mark.parametrize("calls", [0, 1])
def test_no_memory_for_pytorch_at_all(on_a_gpu, calls):
    line = on_a_gpu(ALL, calls)
    assert line["steps"] == 10 and line["images_per_second"] > 0 and line["ratio_to_torch"] is None
    assert line["torch"]["images_per_second"] is None and line["torch"]["note"] == "PyTorch fails: CUDA out of memory"


def test_what_is_no_lack_of_memory_is_told(on_a_gpu):
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        on_a_gpu(0, 0)  # on neither side
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        on_a_gpu(0, ALL, "INTERNAL: no")


@pytest.mark.parametrize(
    "given, fraction",
    [
        ({}, "0.95"),
        ({"XLA_CLIENT_MEM_FRACTION": "0.5"}, "0.5"),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.5"}, None),
        ({"XLA_PYTHON_CLIENT_MEM_FRACTION": ""}, "0.95"),
    ],
)
def test_sharing_a_gpu(given, fraction):
    environment = dict(given)
    shared_gpu.prepare(environment)
    assert environment.get("XLA_CLIENT_MEM_FRACTION") == fraction
    assert environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" and given.items() <= environment.items()


@needs_torch
def test_what_pytorch_refuses(config):
    with pytest.raises(ConfigError, match="parameters in PyTorch, 12 here"):
        rival.Rival("train", config, 12, False)
    other = ran.get_config()
    other.optimizer.name = "sgd"
    with pytest.raises(ConfigError, match="optimizer.name 'adam' only"):
        rival.Rival("train", other, 12, False)


POINTS = [points.Point("some.program", {"seed": i}, seconds=100.0) for i in range(3)]


def test_a_campaign_goes_on_where_it_stopped(tmp_path):
    path, ran_points = tmp_path / "results" / "cpu.json", []

    def run(point, timeout):
        ran_points.append(point)
        if point is POINTS[1] and len(ran_points) < 3:
            raise RuntimeError("exit code 1: no")
        return {"images_per_second": 1.0}

    assert not campaign.campaign(POINTS, path, 50.0, run)  # the first always runs
    assert ran_points == POINTS[:1]
    assert campaign.campaign(POINTS, path, math.inf, run) and ran_points == POINTS
    found = json.loads(path.read_text())
    assert list(found["points"]) == [point.command for point in POINTS]
    assert found["points"][POINTS[1].command]["error"] == "exit code 1: no" and found["machine"]["cores"] > 0
    assert campaign.campaign(POINTS, path, math.inf, run) and len(ran_points) == 3
    assert campaign.campaign(POINTS, path, math.inf, run, retry=True) and ran_points[3:] == POINTS[1:2]
    assert "error" not in json.loads(path.read_text())["points"][POINTS[1].command]


def test_a_point_that_outlasts_its_turn(tmp_path):
    path, told = tmp_path / "cpu.json", []

    def run(point, timeout):
        told.append(timeout)
        if point is POINTS[1]:
            raise subprocess.TimeoutExpired("x", timeout)
        return {}

    assert not campaign.campaign(POINTS, path, 150.0, run)  # nothing is kept of it, for it had no whole turn
    assert len(json.loads(path.read_text())["points"]) == 1
    assert campaign.campaign(POINTS, path, 150.0, run)
    assert json.loads(path.read_text())["points"][POINTS[1].command]["error"] == "took more than 150 s"
    assert all(0 < timeout <= 150 for timeout in told)


def test_what_is_not_kept(tmp_path, capsys):
    """Neither what was not measured on the GPU nor what could not start; the points after that are measured."""
    path = tmp_path / "gpu.json"

    def run(point, timeout):
        if point is POINTS[0]:
            raise campaign.NotInstalled("exit code 1: Traceback\nModuleNotFoundError: No module named 'scipy'")
        return {"device": "gpu"}

    with pytest.raises(ConfigError, match="1 points cannot start: ModuleNotFoundError: No module named 'scipy'"):
        campaign.campaign(POINTS, path, math.inf, run, device="gpu")
    kept = list(json.loads(path.read_text())["points"])
    assert kept == [point.command for point in POINTS[1:]]
    with pytest.raises(ConfigError, match="measured on cpu, not on gpu"):
        campaign.campaign(POINTS, path, math.inf, lambda point, timeout: {"device": "cpu"}, device="gpu")
    assert list(json.loads(path.read_text())["points"]) == kept


@pytest.mark.parametrize(
    "code, text",
    [
        ("import no_such_module", "JAX does not start: ModuleNotFoundError: No module named 'no_such_module'"),
        ("print('cpu')", "JAX finds no GPU"),
    ],
)
def test_a_gpu_campaign_needs_a_gpu(code, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "STARTS", {"JAX": (code, "gpu", "pip install '.[cuda13]'")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)
    assert campaign.main(["gpu", f"--out={tmp_path / 'gpu.json'}"]) == 2
    what, where, fix = capsys.readouterr().err.splitlines()
    assert what == f"error: {text}" and where == f"  where: {sys.executable}" and fix.startswith("  fix:   pip install")
    assert not (tmp_path / "gpu.json").exists()


PARENT = """
import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path("child").write_text(str(child.pid))
time.sleep(600)
"""


def test_nothing_outlives_a_point(tmp_path, monkeypatch):
    """What its program has started ends too, for it would hold the GPU."""
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "parent.py").write_text(PARENT)
    told = tmp_path / "child"
    for timeout in (1, 10, 100):  # as long as it takes to start
        with pytest.raises(subprocess.TimeoutExpired):
            campaign.run_apart(points.Point("parent"), timeout)
        if told.exists() and told.read_text():
            break
    status = pathlib.Path("/proc", told.read_text(), "stat")
    until = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > until:
            os.kill(int(told.read_text()), signal.SIGKILL)
            pytest.fail("the child of the point's program is still there")
        time.sleep(0.01)


def test_a_program_that_cannot_import(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "lacking.py").write_text("import no_such_module")
    with pytest.raises(campaign.NotInstalled, match="No module named 'no_such_module'"):
        campaign.run_apart(points.Point("lacking"), 100)


def test_the_tables():
    train = [p for p in points.cpu_points() if p.flags.get("what") == "train"]
    assert len(train) == 18 and len({point.command for point in points.cpu_points()}) == 3 * 6 + 3 * 3 + 1
    assert train[0].command == (
        "python -m launch.benchmark --config=configs/ran.py --config.model.name=resnet18 --config.data.image_size=64 "
        "--config.model.dtype=float32 --config.batch_size=16 --what=train --steps=30 --against=torch"
    )
    gpu = list(points.gpu_points("synthetic:9750"))
    assert [(p.fields["model.name"], p.fields["model.dtype"], p.fields["batch_size"]) for p in gpu[:4]] == [
        ("ran56", "bfloat16", 256),
        ("resnet50", "bfloat16", 256),
        ("ran56", "bfloat16", 16),
        ("resnet50", "bfloat16", 16),
    ]
    assert {point.fields.get("model.name", "ran56") for point in gpu} == set(models.list())
    assert all(point.seconds <= 360 for point in gpu)  # of the 540 of a turn
    assert all(p.seconds >= 240 for p in gpu if "against" in p.flags and p.fields["model.name"].startswith("ran"))
    with_faces = [point for point in gpu if "data.source" in point.fields]
    assert with_faces[0].flags["what"] == "input" and with_faces[0].seconds >= 300  # draws them, before any job
    assert next(points.fit_points()).arguments == [
        "--config=configs/quickstart.py:resnet",
        "--config.batch_size=16",
        "--what=fit",
        "--steps=1800",
    ]


def test_a_point_as_a_program(config):
    """The command as a campaign gives it; its last line is the result."""
    fields = points.TINY | {"data.source": config.data.source, "data.cache_dir": config.data.cache_dir}
    line = campaign.run_apart(points.Point("launch.benchmark", fields, {"what": "input", "steps": 2}), 200)
    assert line["what"] == "input" and line["steps"] == 2
    with pytest.raises(RuntimeError, match="exit code 2: error: --steps must be"):
        campaign.run_apart(points.Point("launch.benchmark", fields, {"what": "input", "steps": 0}), 200)
    row = tables.throughput({"points": {"x": {"result": line}, "y": {"error": "no"}}}).splitlines()[-1]
    assert row.startswith("| input | levi_hassner | 32 | 8 | float32 | ") and row.count("|") == 15


def test_shares_of_what_the_machine_reaches():
    limits = {"what": "limits", "jax": {"matmul_float32": 100.0, "triad": 50.0}}
    line = {"what": "kernels", "model": "ran56", "image_size": 64, "batch_size": 8, "dtype": "float32", "devices": 2}
    line |= {"step_ms": 1.0, "busy": 0.9, "gflops_per_second": 80.0, "gb_per_second": 10.0}
    line |= {"kernels": [{"name": "gemm", "share": 0.25}]}
    found = {"points": {"a": {"result": limits}, "b": {"result": line}}}
    row = "| ran56 | 64 | 8 | float32 | 1.0 | 0.90 | 80 | 0.40 | 10 | 0.10 | gemm, 0.25 |"
    assert tables.all_of(found).splitlines()[2:] == [row]
    assert tables.share(found, line | {"dtype": "bfloat16"}) is None
    assert tables.share(found, line | {"gflops_per_second": None}) is None


def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "dry.json"
    assert campaign.main(["gpu", "--dry-run", f"--out={out}"]) == 0
    found = [kept["result"] for kept in json.loads(out.read_text())["points"].values()]
    assert [line["what"] for line in found] == ["train", "evaluate", "limits", "kernels", "input", "job", "fit"]
    by = {line["what"]: line for line in found}
    assert by["limits"]["jax"]["matmul_float32"] > 0 and by["limits"]["decoded_images_per_second"]["one_thread"] > 0
    assert 0 < sum(kernel["share"] for kernel in by["kernels"]["kernels"]) <= 1 + 1e-9
    assert by["kernels"]["gflops"] > 0 and by["kernels"]["gb_per_second"] > 0
    told = by["job"]
    assert told["extrapolated_s"] == pytest.approx(told["first_s"] + 99 * told["second_s"] + told["after_s"])
    assert told["images_an_epoch"] == 80 and told["batch_size"] == 8
    check_line("fit", by["fit"], "bfloat16")
    assert "done: " in capsys.readouterr().out
    assert (programs.ROOT / "benchmarks" / "gpu.sh").stat().st_mode & 0o111 and job.ROOT == programs.ROOT


def test_kernels_of_a_gpu_trace():
    def meta(kind, tid, name):
        return {"ph": "M", "pid": 1, "tid": tid, "name": kind, "args": {"name": name}}

    events = [
        meta("process_name", None, "/device:GPU:0 NVIDIA H100"),
        meta("thread_name", 1, "Stream #7(Compute)"),
        meta("thread_name", 2, "XLA Ops"),
        {"ph": "X", "pid": 1, "tid": 1, "name": "gemm.1", "dur": 3.0, "args": {"hlo_op": "dot.1"}},
        {"ph": "X", "pid": 1, "tid": 1, "name": "gemm.1", "dur": 4.0},
        {"ph": "X", "pid": 1, "tid": 2, "name": "dot.1", "dur": 7.0, "args": {"hlo_op": "dot.1"}},
    ]
    del events[0]["tid"]
    assert kernels.durations(events) == {"gemm.1": [3.0, 4.0]}
    events[1]["args"]["name"] = "Queue #7"
    with pytest.raises(ConfigError, match="holds no kernels\n  where: threads: Queue #7, XLA Ops\n"):
        kernels.durations(events)


def test_the_newest_trace(tmp_path):
    with pytest.raises(ConfigError, match="left no trace"):
        kernels.recorded(tmp_path)
    for age, name in ((0, "b"), (100, "a"), (50, "c")):
        path = tmp_path / name / "host.trace.json.gz"
        path.parent.mkdir()
        path.write_bytes(gzip.compress(json.dumps({"traceEvents": [name]}).encode()))
        os.utime(path, (1e9 - age, 1e9 - age))
    assert kernels.recorded(tmp_path) == ["b"]


def test_what_layers_must_read_and_write():
    config = ran.get_config()
    config.update_from_flattened_dict(points.TINY)
    half = ran.get_config()
    half.update_from_flattened_dict(points.TINY | {"model.dtype": "bfloat16"})
    assert kernels.gigabytes(half) == pytest.approx(kernels.gigabytes(config) / 2)
    call = layers.Layer("convolution", ((8, 32, 32, 3), (3, 3, 3, 16)), ((1, 1), ((1, 1), (1, 1))))
    assert call.work()[1] == pytest.approx(4e-9 * (8 * 32 * 32 * (3 + 16) + 9 * 3 * 16))
    assert kernels.gigabytes(config) > 3 * 4e-9 * 8 * 32 * 32 * 3
