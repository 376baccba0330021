"""Campaigns of measurements: the order and limits of their points, what they record, and the tables of results."""

import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from agegender_jax.errors import ConfigError
from benchmarks import (
    campaign,
    machine,
    points,
    tables,
)

POINTS = [points.Point("some.program", {"seed": i}, seconds=100.0) for i in range(3)]


class Clock:
    """Stands in for `time` in campaigns whose points take no time."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(campaign, "time", clock)
    return clock


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
    assert "| `some.program --config=configs/ran.py --config.seed=1` | exit code 1: no |" in tables.all_of(result)
    assert campaign.campaign(POINTS, path, math.inf, run) and len(ran_points) == 3
    assert campaign.campaign(POINTS, path, math.inf, run, retry=True) and ran_points[3:] == POINTS[1:2]
    again = json.loads(path.read_text())
    assert "error" not in again["points"][POINTS[1].command] and tables.failures(again).count("\n") == 1


def test_a_point_that_exceeds_its_time_limit_is_tried_once_more_by_a_later_call(tmp_path):
    path, started = tmp_path / "gpu.json", []
    slow, other = points.Point("slow", seconds=5.0, limit=100.0), points.Point("other", seconds=5.0)

    def run(point, timeout):
        started.append(point.program)
        if point is slow:
            raise subprocess.TimeoutExpired("x", timeout)
        return {}

    assert not campaign.campaign([slow], path, 1000.0, run) and started == ["slow"]
    assert "not finished: took more than 100 s" in tables.failures(json.loads(path.read_text()))
    assert campaign.campaign([slow, other], path, 1000.0, run)
    assert started == ["slow", "other", "slow"]  # what was not tried yet comes first
    assert json.loads(path.read_text())["points"][slow.command]["error"] == "took more than 100 s, 2 times"
    assert campaign.campaign([slow, other], path, 1000.0, run) and len(started) == 3


def test_a_point_cut_by_the_end_of_the_call_has_not_failed(tmp_path):
    """It is tried again as often as that happens, after the others."""
    path, started = tmp_path / "gpu.json", []

    def run(point, timeout):
        started.append(point.program)
        if point.program == "cut" and len(started) < 5:
            assert 0 < timeout <= 50
            raise subprocess.TimeoutExpired("x", timeout)
        return {}

    two = [points.Point("cut", limit=178.0), points.Point("other")]
    for _ in range(3):
        assert not campaign.campaign(two[:1], path, 50.0, run)
    assert not campaign.campaign(two, path, 50.0, run) and started == ["cut", "cut", "cut", "other"]
    assert json.loads(path.read_text())["tried"][two[0].command] == ["the call ended after 50 s"] * 3
    assert campaign.campaign(two, path, 500.0, run)
    done = json.loads(path.read_text())
    assert all("result" in done["points"][point.command] for point in two) and not done["tried"]


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
        return {}

    absent = points.Point("absent", needs=("benchmarks/gpu.sh", "no/such.zip"))
    assert campaign.campaign([absent, POINTS[0], points.Point("slow", limit=3.0)], path, math.inf, run)
    assert values == {"some.program": None, "slow": 3.0}
    assert "left out, without no/such.zip" in capsys.readouterr().out


def test_a_training_continues_after_the_others_of_its_stage(tmp_path, clock):
    """In the same call while there is time, and in the next one otherwise."""
    path, started = tmp_path / "gpu.json", []
    net, other = points.Point("net", seconds=100.0, limit=178.0), points.Point("other", seconds=20.0)
    later = points.Point("later", seconds=20.0, stage=1)

    def run(point, timeout):
        started.append(point.program)
        clock.now += min(timeout or math.inf, 178.0 if point is net else 20.0)
        if point is net and started.count("net") < 3:
            raise campaign.Unfinished("ran was stopped")
        return {"what": "train"}

    assert not campaign.campaign([later, net, other], path, 400.0, run)
    assert started == ["net", "other", "net", "later"]
    assert "not finished: ran was stopped; ran was stopped" in tables.failures(json.loads(path.read_text()))
    assert campaign.campaign([later, net, other], path, 400.0, run) and started[4:] == ["net"]


@pytest.mark.parametrize("stops", (0, 1, 9))
def test_a_lease_of_15_minutes_measures_each_required_kind(tmp_path, clock, monkeypatch, stops):
    """In two calls, with estimated durations, also if Attention-56 needs several starts or never ends."""
    monkeypatch.setattr(campaign, "is_possible", lambda point: True)
    started = []

    def run(point, timeout):
        started.append(point)
        attention = point.flags.get("net") == "ran" or point.fields.get("model.name") == "ran56"
        clock.now += min(timeout, 178.0 if attention else point.seconds)
        if point.flags.get("net") == "ran" and started.count(point) <= stops:
            raise campaign.Unfinished("ran was stopped")
        return {}

    for seconds in (320, 390):
        clock.now += machine.STARTING / 2
        campaign.campaign(points.gpu_points(), tmp_path / "gpu.json", seconds - machine.STARTING / 2, run)
    done = json.loads((tmp_path / "gpu.json").read_text())["points"]
    first = [(p.program.partition(".")[2], p.flags.get("net") or p.flags.get("what")) for p in started]
    assert first[0] == ("limits", None) and first[1] == ("full_size", "resnet")
    required = [point for point in points.gpu_points() if point.stage == points.REQUIRED]
    missing = [point.command for point in required if point.command not in done]
    assert missing == ([started[2].command] if stops else []) and started[2].flags["net"] == "ran"
    assert clock.now < 1000 + 320 + 390


def test_errors_name_files_without_their_folders(tmp_path):
    """Results are published."""

    def run(point, timeout):
        raise RuntimeError(
            'exit code 1: File "/some/env/lib/jax/api.py", line 3, in /tmp/x/y: a/b 3/4 https://host/x/y'
        )

    campaign.campaign(POINTS[:1], tmp_path / "gpu.json", math.inf, run)
    error = json.loads((tmp_path / "gpu.json").read_text())["points"][POINTS[0].command]["error"]
    assert error == 'exit code 1: File "api.py", line 3, in y: a/b 3/4 https://host/x/y'


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
    starts = {"JAX": (code, "gpu", "pip install '.[cuda13]'"), "PyTorch": ("print('True')", "True", "")}
    monkeypatch.setattr(machine, "STARTS", starts)
    assert campaign.main(["gpu", f"--out={tmp_path / 'gpu.json'}"]) == 2
    what, where, fix = capsys.readouterr().err.splitlines()
    assert what == f"error: {text}" and where == f"  where: {sys.executable}" and fix.startswith("  fix:   pip install")
    assert not (tmp_path / "gpu.json").exists()


def test_without_pytorch_nothing_is_compared_with_it(tmp_path, monkeypatch, capsys):
    """The rest is measured; and the campaign says how many points have failed."""
    absent = ("import no_such_module", "True", "install it")
    monkeypatch.setattr(machine, "STARTS", {"JAX": ("print('gpu')", "gpu", ""), "PyTorch": absent})
    commands, out = [], tmp_path / "gpu.json"

    def run(point, timeout):
        commands.append(point.command)
        if point.program == "benchmarks.job":
            raise RuntimeError("exit code 1: no")
        return {"device": "gpu", "what": "none"}

    monkeypatch.setattr(campaign, "run_apart", run)
    assert campaign.main(["gpu", f"--out={out}", "--source=synthetic:9750"]) == 0
    assert commands and not any("against" in command for command in commands)
    printed = capsys.readouterr().out
    assert printed.count("nothing is compared with PyTorch: PyTorch does not start: ModuleNotFoundError") == 1
    assert f"done: {out}; 5 points failed (--retry repeats them)\n" in printed and "| exit code 1: no |" in printed


def test_a_check_of_the_gpu_ends_in_time(monkeypatch):
    hangs = ("import time; time.sleep(100)", "gpu", "")
    monkeypatch.setattr(machine, "STARTING", 0.2)
    monkeypatch.setattr(machine, "STARTS", {"JAX": hangs, "PyTorch": hangs})
    with pytest.raises(ConfigError, match="JAX has not started after 0 s"):
        machine.check_gpu()


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


def test_results_of_another_machine_are_not_continued(tmp_path, capsys):
    """A campaign on GPUs is, and says where each point was measured."""
    out = tmp_path / "fit.json"
    out.write_text(json.dumps({"machine": {"cpu": "another"}, "points": {}}))
    with pytest.raises(SystemExit):
        campaign.main(["fit", f"--out={out}"])
    assert "has results of another machine" in capsys.readouterr().err
    assert campaign.campaign([points.Point("a", seconds=1.0, config="")], out, 100, lambda *args: {"what": "train"})
    (point,) = json.loads(out.read_text())["points"].values()
    assert point["machine"] == campaign.machine()
    own = tmp_path / "own.json"
    campaign.campaign([points.Point("a", seconds=1.0, config="")], own, 100, lambda *args: {"what": "train"})
    (point,) = json.loads(own.read_text())["points"].values()
    assert "machine" not in point


def test_a_program_that_cannot_import(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "lacking.py").write_text("import no_such_module")
    with pytest.raises(campaign.NotInstalled, match="No module named 'no_such_module'"):
        campaign.run_apart(points.Point("lacking"), 100)
    wanting = "import importlib.util\nimportlib.util.find_spec = lambda *args: None\n"
    wanting += "from agegender_jax import extras\nfrom agegender_jax.cli.exits import guard\n"
    (tmp_path / "wanting.py").write_text(wanting + "guard(lambda: extras.check('train'))")
    with pytest.raises(campaign.NotInstalled, match="modules that are not installed"):
        campaign.run_apart(points.Point("wanting"), 100)


def test_a_failure_whose_files_are_absent_stays_in_the_results(tmp_path):
    path = tmp_path / "gpu.json"
    given = {"seconds": 1.0, "config": ""}
    both = [points.Point("a", needs=("nowhere/faces.zip",), **given), points.Point("b", **given)]
    saved = {both[0].command: {"measured": "", "error": "it broke"}}
    path.write_text(json.dumps({"machine": {}, "points": saved, "tried": {}}))
    assert campaign.campaign(both, path, 100, lambda point, limit: {"what": "train"}, retry=True)
    results = json.loads(path.read_text())
    assert results["points"][both[0].command]["error"] == "it broke" and both[1].command in results["points"]
