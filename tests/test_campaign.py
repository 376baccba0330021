"""The campaigns of measurements, tiny: what they keep, what ends with them, and how they read traces."""

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

import programs
import pytest
from benchmark_line import check_line

from agegender_jax import models, synthetic
from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from benchmarks import campaign, job, kernels, layers, machine, points, tables

POINTS = [points.Point("some.program", {"seed": i}, seconds=100.0) for i in range(3)]


def test_a_campaign_resumes(tmp_path):
    path, ran_points = tmp_path / "results" / "cpu.json", []

    def run(point, timeout):
        ran_points.append(point)
        if point is POINTS[1] and len(ran_points) < 3:
            raise RuntimeError("exit code 1: no")
        return {"images_per_second": 1.0}

    assert not campaign.campaign(POINTS, path, 50.0, run)  # the first always runs
    assert ran_points == POINTS[:1]
    assert campaign.campaign(POINTS, path, math.inf, run) and ran_points == POINTS
    result = json.loads(path.read_text())
    assert list(result["points"]) == [point.command for point in POINTS]
    assert result["points"][POINTS[1].command]["error"] == "exit code 1: no" and result["machine"]["cores"] > 0
    assert campaign.campaign(POINTS, path, math.inf, run) and len(ran_points) == 3
    assert campaign.campaign(POINTS, path, math.inf, run, retry=True) and ran_points[3:] == POINTS[1:2]
    assert "error" not in json.loads(path.read_text())["points"][POINTS[1].command]


def test_a_point_that_outlasts_its_turn(tmp_path):
    path, values = tmp_path / "cpu.json", []

    def run(point, timeout):
        values.append(timeout)
        if point is POINTS[1]:
            raise subprocess.TimeoutExpired("x", timeout)
        return {}

    assert not campaign.campaign(POINTS, path, 150.0, run)  # nothing is kept of it, for it had no whole turn
    assert len(json.loads(path.read_text())["points"]) == 1
    assert campaign.campaign(POINTS, path, 150.0, run)
    assert json.loads(path.read_text())["points"][POINTS[1].command]["error"] == "took more than 150 s"
    assert all(0 < timeout <= 150 for timeout in values)


def test_results_that_are_not_recorded(tmp_path, capsys):
    """Points measured elsewhere or that could not start are left out; the points after them are measured."""
    path = tmp_path / "gpu.json"

    def run(point, timeout):
        if point is POINTS[0]:
            raise campaign.NotInstalled("exit code 1: Traceback\nModuleNotFoundError: No module named 'scipy'")
        return {"device": "gpu"}

    with pytest.raises(ConfigError, match="1 points cannot start: ModuleNotFoundError: No module named 'scipy'"):
        campaign.campaign(POINTS, path, math.inf, run, device="gpu")
    commands = list(json.loads(path.read_text())["points"])
    assert commands == [point.command for point in POINTS[1:]]
    with pytest.raises(ConfigError, match="measured on cpu, not on gpu"):
        campaign.campaign(POINTS, path, math.inf, lambda point, timeout: {"device": "cpu"}, device="gpu")
    assert list(json.loads(path.read_text())["points"]) == commands


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
    """Processes that its program started end too; they would hold the GPU."""
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "parent.py").write_text(PARENT)
    values = tmp_path / "child"
    for timeout in (1, 10, 100):  # as long as it takes to start
        with pytest.raises(subprocess.TimeoutExpired):
            campaign.run_apart(points.Point("parent"), timeout)
        if values.exists() and values.read_text():
            break
    status = pathlib.Path("/proc", values.read_text(), "stat")
    until = time.monotonic() + 20
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        if time.monotonic() > until:
            os.kill(int(values.read_text()), signal.SIGKILL)
            pytest.fail("the child of the point's program is still there")
        time.sleep(0.01)


def test_a_program_that_cannot_import(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "lacking.py").write_text("import no_such_module")
    with pytest.raises(campaign.NotInstalled, match="No module named 'no_such_module'"):
        campaign.run_apart(points.Point("lacking"), 100)


def test_the_points_of_the_campaigns():
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


def test_a_point_as_a_program(tmp_path):
    """The command as a campaign gives it; its last line is the result."""
    synthetic.write_faces(tmp_path / "faces", 60, seed=0, size=32)
    fields = points.TINY | {"data.source": tmp_path / "faces", "data.cache_dir": tmp_path / "cache"}
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
    result = {"points": {"a": {"result": limits}, "b": {"result": line}}}
    row = "| ran56 | 64 | 8 | float32 | 1.0 | 0.90 | 80 | 0.40 | 10 | 0.10 | gemm, 0.25 |"
    assert tables.all_of(result).splitlines()[2:] == [row]
    assert tables.share(result, line | {"dtype": "bfloat16"}) is None
    assert tables.share(result, line | {"gflops_per_second": None}) is None


@pytest.mark.slow
def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "dry.json"
    assert campaign.main(["gpu", "--dry-run", f"--out={out}"]) == 0
    result = [point["result"] for point in json.loads(out.read_text())["points"].values()]
    assert [line["what"] for line in result] == ["train", "evaluate", "limits", "kernels", "input", "job", "fit"]
    by = {line["what"]: line for line in result}
    assert by["limits"]["jax"]["matmul_float32"] > 0 and by["limits"]["decoded_images_per_second"]["one_thread"] > 0
    assert 0 < sum(kernel["share"] for kernel in by["kernels"]["kernels"]) <= 1 + 1e-9
    assert by["kernels"]["gflops"] > 0 and by["kernels"]["gb_per_second"] > 0
    values = by["job"]
    assert values["extrapolated_s"] == pytest.approx(values["first_s"] + 99 * values["second_s"] + values["after_s"])
    assert values["images_an_epoch"] == 80 and values["batch_size"] == 8
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


def test_gigabytes_that_layers_read_and_write():
    config = ran.get_config()
    config.update_from_flattened_dict(points.TINY)
    half = ran.get_config()
    half.update_from_flattened_dict(points.TINY | {"model.dtype": "bfloat16"})
    assert kernels.gigabytes(half) == pytest.approx(kernels.gigabytes(config) / 2)
    call = layers.Layer("convolution", ((8, 32, 32, 3), (3, 3, 3, 16)), ((1, 1), ((1, 1), (1, 1))))
    assert call.work()[1] == pytest.approx(4e-9 * (8 * 32 * 32 * (3 + 16) + 9 * 3 * 16))
    assert kernels.gigabytes(config) > 3 * 4e-9 * 8 * 32 * 32 * 3
