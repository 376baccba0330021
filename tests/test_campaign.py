"""Campaigns of measurements: the order and limits of their points, what they record, and the tables of results."""

import importlib.util
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from agegender_jax import config as config_lib
from agegender_jax import models, synthetic
from agegender_jax.configs import best
from agegender_jax.errors import ConfigError
from benchmarks import (
    campaign,
    machine,
    points,
    tables,
)

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


def test_a_point_that_exceeds_its_time_limit(tmp_path):
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


def test_a_shorter_point_uses_the_remaining_time(tmp_path):
    path = tmp_path / "gpu.json"
    long = points.Point("long", seconds=100.0)
    short = points.Point("short", seconds=5.0)
    assert not campaign.campaign([POINTS[0], long, short], path, 50.0, lambda point, timeout: {})
    assert list(json.loads(path.read_text())["points"]) == [POINTS[0].command, short.command]


def test_points_have_time_limits_and_required_files(tmp_path, capsys):
    path, values = tmp_path / "gpu.json", {}

    def run(point, timeout):
        values[point.program] = timeout
        if point.program == "slow":
            raise subprocess.TimeoutExpired("x", timeout)
        return {}

    absent = points.Point("absent", needs=("benchmarks/gpu.sh", "no/such.zip"))
    slow = points.Point("slow", limit=3.0)
    assert campaign.campaign([absent, POINTS[0], slow, POINTS[1]], path, math.inf, run)
    assert values == {"some.program": None, "slow": 3.0}
    assert json.loads(path.read_text())["points"][slow.command]["error"] == "took more than 3 s"
    assert "left out, without no/such.zip" in capsys.readouterr().out


def test_a_training_that_continues_over_several_starts(tmp_path):
    """It is started again at once while there is time, and in the next run of the campaign otherwise."""
    path, starts = tmp_path / "gpu.json", []

    def run(point, timeout):
        starts.append(timeout)
        if len(starts) % 3:
            raise campaign.Unfinished("ran was stopped")
        return {"what": "train"}

    long = points.Point("long", limit=178.0)
    assert not campaign.campaign([long], path, campaign.CONTINUE - 1, run) and not path.exists()
    assert campaign.campaign([long], path, 500.0, run)
    assert len(starts) == 3 and starts[1:] == [178.0, 178.0]
    assert long.command in json.loads(path.read_text())["points"]


def test_a_point_receives_its_time_limit_and_may_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "timed.py").write_text("import os; print(os.environ['POINT_SECONDS'])")
    assert campaign.run_apart(points.Point("timed"), 99.5) == 99.5
    (tmp_path / "stopped.py").write_text(f"import sys; sys.exit({campaign.AGAIN})")
    with pytest.raises(campaign.Unfinished):
        campaign.run_apart(points.Point("stopped"), 100)


def test_results_of_another_device_or_without_a_package_are_not_recorded(tmp_path, capsys):
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


def test_no_process_outlives_its_point(tmp_path, monkeypatch):
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
    assert all(point.seconds <= point.limit < 180 for point in gpu)
    assert len({point.command for point in gpu}) == len(gpu)
    assert [point.program.partition(".")[2] for point in gpu[:12]] == [
        *("limits", "full_size", "full_size", "full_size", "resume"),
        *("benchmark", "benchmark", "benchmark", "benchmark", "job", "benchmark", "benchmark"),
    ]
    assert [(p.fields["model.name"], p.fields["model.dtype"], p.fields["batch_size"]) for p in gpu[5:9]] == [
        ("ran56", "bfloat16", 256),
        ("resnet50", "bfloat16", 256),
        ("ran56", "bfloat16", 16),
        ("resnet50", "bfloat16", 16),
    ]
    assert {point.fields.get("model.name", "ran56") for point in gpu} == set(models.names())
    assert gpu[1].command == (
        "python -m benchmarks.full_size --config.log.figures=False --config.eval.every_epochs=5 "
        "--source=runs/gpu/data/crop_part1.tar.gz --folder=runs/gpu/crop_part1"
    )
    assert gpu[1].needs == ("runs/gpu/data/crop_part1.tar.gz",) and len(gpu[3].needs) == 2
    for point in (point for point in gpu if point.program == "benchmarks.full_size"):  # each net takes all fields
        for net in ("ran", "resnet"):
            config = best.get_config(f"{net},gpu")
            config.update_from_flattened_dict(point.fields)
            config_lib.validate(config)
            assert config.model.width == 1 and config.model.dtype == "bfloat16"
    assert next(points.fit_points()).arguments == [
        "--config=configs/quickstart.py:resnet",
        "--config.batch_size=16",
        "--what=fit",
        "--steps=1800",
    ]


def test_a_point_runs_as_a_program(tmp_path):
    """The command as a campaign gives it; its last line is the result."""
    synthetic.write_faces(tmp_path / "faces", 60, seed=0, size=32)
    fields = points.TINY | {"data.source": tmp_path / "faces", "data.cache_dir": tmp_path / "cache"}
    line = campaign.run_apart(points.Point("launch.benchmark", fields, {"what": "input", "steps": 2}), 200)
    assert line["what"] == "input" and line["steps"] == 2
    with pytest.raises(RuntimeError, match="exit code 2: error: --steps must be"):
        campaign.run_apart(points.Point("launch.benchmark", fields, {"what": "input", "steps": 0}), 200)
    row = tables.throughput({"points": {"x": {"result": line}, "y": {"error": "no"}}}).splitlines()[-1]
    assert row.startswith("| input | levi_hassner | 32 | 8 | float32 | ") and row.count("|") == 15


def test_shares_of_the_limits_of_the_machine():
    limits = {"what": "limits", "jax": {"matmul_float32": 100.0, "triad": 50.0}}
    line = {"what": "kernels", "model": "ran56", "image_size": 64, "batch_size": 8, "dtype": "float32", "devices": 2}
    line |= {"step_ms": 1.0, "busy": 0.9, "gflops_per_second": 80.0, "gb_per_second": 10.0}
    line |= {"kernels": [{"name": "gemm", "share": 0.25}]}
    result = {"points": {"a": {"result": limits}, "b": {"result": line}}}
    row = "| ran56 | 64 | 8 | float32 | 1.0 | 0.90 | 80 | 0.40 | 10 | 0.10 | gemm, 0.25 |"
    assert tables.all_of(result).splitlines()[2:] == [row]
    assert tables.share(result, line | {"dtype": "bfloat16"}) is None
    assert tables.share(result, line | {"gflops_per_second": None}) is None
