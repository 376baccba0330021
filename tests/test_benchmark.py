"""The benchmark's lines, its twin in PyTorch, and the campaigns, all tiny: nothing here depends on the clock."""

import importlib.util
import json
import math
import subprocess

import jax
import numpy as np
import programs
import pytest
from programs import check

from agegender_jax import models
from agegender_jax.data import synthetic
from agegender_jax.errors import ConfigError
from agegender_jax.run import benchmark, feeding, rival, timing
from benchmarks import campaign, job, kernels
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
    config.update_from_flattened_dict(campaign.TINY)
    config.data.update(source=str(folder / "faces"), cache_dir=str(folder / "cache"))
    return config


@pytest.mark.parametrize("what", ["train", "evaluate", "input", "fit"])
def test_the_line(what, config):
    line = benchmark.measure(what, config, 3)
    assert {key: type(line[key]) for key in KEYS} == KEYS
    expected = (what, "levi_hassner", 32, 8, "float32", "cpu", 1 if what == "evaluate" else jax.device_count())
    assert tuple(line.values())[: len(expected)] == expected
    step = line["step_ms"]
    assert 0 < step["min"] <= step["median"] <= step["max"]
    assert line["ratio_to_torch"] is None and line["versions"]["jax"] == jax.__version__
    assert line["steps"] == (feeding.LOG_LINES if what == "fit" else 3)
    assert line["images_per_second"] > 0 and line["peak_memory_mb"] > 0
    if what in ("train", "evaluate"):
        assert line["images_per_second"] == pytest.approx(1000 * line["batch_size"] / step["median"])
        assert line["gflops"] > 0 and line["compile_s"] > 0
    if what == "fit":
        ratios = line["block_ratios"]
        assert 0 < ratios["min"] <= line["of_step_alone"] <= ratios["max"]
        assert 0 <= line["data_wait"] <= 1 and line["compile_s"] > 0 and line["start_s"] > 0


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


@needs_torch
def test_what_pytorch_refuses(config):
    with pytest.raises(ConfigError, match="parameters in PyTorch, 12 here"):
        rival.Rival("train", config, 12, False)
    other = ran.get_config()
    other.optimizer.name = "sgd"
    with pytest.raises(ConfigError, match="optimizer.name 'adam' only"):
        rival.Rival("train", other, 12, False)


POINTS = [campaign.Point("some.program", {"seed": i}, seconds=100.0) for i in range(3)]


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


def test_the_tables():
    train = [p for p in campaign.cpu_points() if p.flags.get("what") == "train"]
    assert len(train) == 18 and len({point.command for point in campaign.cpu_points()}) == 3 * 6 + 3 * 3 + 1
    assert train[0].command == (
        "python -m launch.benchmark --config=configs/ran.py --config.model.name=resnet18 --config.data.image_size=64 "
        "--config.model.dtype=float32 --config.batch_size=16 --what=train --steps=30 --against=torch"
    )
    gpu = list(campaign.gpu_points("synthetic:9750"))
    assert [(p.fields["model.name"], p.fields["model.dtype"], p.fields["batch_size"]) for p in gpu[:4]] == [
        ("ran56", "bfloat16", 256),
        ("resnet50", "bfloat16", 256),
        ("ran56", "bfloat16", 16),
        ("resnet50", "bfloat16", 16),
    ]
    assert {point.fields.get("model.name", "ran56") for point in gpu} == set(models.list())


def test_a_point_as_a_program(config):
    """The command as a campaign gives it; its last line is the result."""
    fields = campaign.TINY | {"data.source": config.data.source, "data.cache_dir": config.data.cache_dir}
    line = campaign.run_apart(campaign.Point("launch.benchmark", fields, {"what": "input", "steps": 2}), 200)
    assert line["what"] == "input" and line["steps"] == 2
    with pytest.raises(RuntimeError, match="exit code 2: error: --steps must be"):
        campaign.run_apart(campaign.Point("launch.benchmark", fields, {"what": "input", "steps": 0}), 200)
    row = campaign.table({"points": {"x": {"result": line}, "y": {"error": "no"}}}).splitlines()[-1]
    assert row.startswith("| input | levi_hassner | 32 | 8 | float32 | ") and row.count("|") == 14


def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "dry.json"
    assert campaign.main(["gpu", "--dry-run", f"--out={out}"]) == 0
    found = [kept["result"] for kept in json.loads(out.read_text())["points"].values()]
    assert [line["what"] for line in found] == ["train", "evaluate", "limits", "kernels", "input", "job"]
    by = {line["what"]: line for line in found}
    assert by["limits"]["jax"]["matmul_float32"] > 0 and by["limits"]["decoded_images_per_second"]["one_thread"] > 0
    assert 0 < sum(kernel["share"] for kernel in by["kernels"]["kernels"]) <= 1 + 1e-9
    assert by["kernels"]["gflops"] > 0 and by["kernels"]["gb_per_second"] > 0
    told = by["job"]
    assert told["extrapolated_s"] == pytest.approx(told["first_s"] + 99 * told["second_s"] + told["after_s"])
    assert told["images_an_epoch"] == 80 and told["batch_size"] == 8
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
