"""The campaigns of measurements, tiny: what they keep, what ends with them, what comes back, how they read traces."""

import dataclasses
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

import jax.numpy as jnp
import numpy as np
import programs
import pytest
from benchmark_line import check_line
from PIL import Image

from agegender_jax import checkpoint, ensemble, loading, models, synthetic
from agegender_jax import config as config_lib
from agegender_jax.configs import best, ran
from agegender_jax.data import checksums, prepared_files
from agegender_jax.data.prepare import prepare
from agegender_jax.errors import CheckpointError, ConfigError, DataError
from benchmarks import (
    campaign,
    full_size,
    gpu_package,
    job,
    kernels,
    layers,
    machine,
    pack_faces,
    points,
    results_copy,
    small_weights,
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


def test_a_shorter_point_takes_the_time_that_is_left(tmp_path):
    path = tmp_path / "gpu.json"
    long = points.Point("long", seconds=100.0)
    short = points.Point("short", seconds=5.0)
    assert not campaign.campaign([POINTS[0], long, short], path, 50.0, lambda point, timeout: {})
    assert list(json.loads(path.read_text())["points"]) == [POINTS[0].command, short.command]


def test_limits_and_files_of_points(tmp_path, capsys):
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


def test_a_training_in_several_starts(tmp_path):
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


def test_a_point_learns_its_time_and_may_stop(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "ROOT", tmp_path)
    (tmp_path / "timed.py").write_text("import os; print(os.environ['POINT_SECONDS'])")
    assert campaign.run_apart(points.Point("timed"), 99.5) == 99.5
    (tmp_path / "stopped.py").write_text(f"import sys; sys.exit({campaign.AGAIN})")
    with pytest.raises(campaign.Unfinished):
        campaign.run_apart(points.Point("stopped"), 100)


def test_what_comes_back(tmp_path, monkeypatch):
    """The results each time, the nets once, as far as the folder has room."""
    monkeypatch.setattr(results_copy, "FILES", 4)
    made = [tmp_path / name for name in ("a.part", "b.part", "c.part", "d.part")]
    for path in made:
        path.write_bytes(b"x" * 100)
    entries = {"first": made[:2], "second": made[2:], "none": []}
    points = {command: {"result": {"files": [str(path) for path in paths]}} for command, paths in entries.items()}
    results = tmp_path / "gpu.json"
    copy = results_copy.ResultsCopy(results, tmp_path / "one")
    copy()  # nothing is measured yet
    results.write_text(json.dumps({"points": points | {"failed": {"error": "no"}}}))
    copy()
    copy()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["a.part", "b.part", "gpu.json"]
    results_copy.ResultsCopy(results, tmp_path / "two")()
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["c.part", "d.part", "gpu.json"]
    monkeypatch.setattr(results_copy, "BYTES", 150)
    (tmp_path / "gpu.copied").unlink()
    results_copy.ResultsCopy(results, tmp_path / "three")()
    assert [path.name for path in (tmp_path / "three").iterdir()] == ["gpu.json"]


def test_the_size_of_a_package(tmp_path, monkeypatch, capsys):
    for folder, size in (("wheels", 1000), ("crop_part1", 2000), ("fairface", 5000)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"x" * size)
    measured = gpu_package.sizes(tmp_path)
    tree = measured["crop_part1"][0]
    assert measured == {"crop_part1": (tree, 1000, 2000), "fairface": (tree, 1000, 5000)}
    assert 2**20 < tree < 64 * 2**20
    gpu_package.check(measured)
    monkeypatch.setattr(gpu_package, "LIMIT", tree + 4000)
    with pytest.raises(ConfigError, match="with fairface\n"):
        gpu_package.check(measured)


def test_prepared_faces_get_the_hashes_of_their_originals(tmp_path):
    old = {"column_file": np.array(["a", "b"]), "column_group": np.array([0, 1], np.int32)}
    np.savez(tmp_path / prepared_files.INDEX, **old)
    checksums.write(tmp_path)
    pack_faces._replace_columns(tmp_path, {"group": np.array([0, 0], np.int32)})
    checksums.check(tmp_path)
    with np.load(tmp_path / prepared_files.INDEX) as index:
        assert index["column_group"].tolist() == [0, 0] and index["column_file"].tolist() == ["a", "b"]


def test_nets_that_come_back(tmp_path, monkeypatch):
    """Kernels of convolutions as bfloat16, in which the net uses them; all else is as it was."""
    draw = np.random.default_rng(0)
    kernel = draw.normal(0, 0.02, (3, 3, 8, 16)).astype(np.float32)
    others = {"bias": draw.normal(size=16).astype(np.float32), "kernel": draw.normal(size=(16, 3)).astype(np.float32)}
    config = {"model": {"dtype": "bfloat16"}}
    (tmp_path / "splits.csv").write_text("a\n")
    (tmp_path / "results.json").write_text("{}")
    saved = checkpoint.Checkpoints(tmp_path / "checkpoints")
    ema = {"params": {"conv": {"kernel": kernel}, "head": others}, "batch_stats": {}}
    saved.save(7, {"params": {"conv": {"kernel": -kernel}}, "ema": ema}, config, {"calibrated_loss": 1.0})
    saved.close()
    monkeypatch.setattr(small_weights, "PART", 2000)
    files = small_weights.store({"ran": tmp_path, "resnet": tmp_path}, "faces", tmp_path / "back")
    assert len(files) == 5 and all(path.stat().st_size <= 2000 for path in files[:-1])
    assert [path.name for path in small_weights.restore(tmp_path / "back", tmp_path / "out")] == ["ran", "resnet"]
    restored = tmp_path / "out" / "faces" / "resnet"
    assert (restored / "splits.csv").read_text() == "a\n" and (restored / "results.json").exists()
    variables, stored_config, step = checkpoint.load_variables(restored / "checkpoints")
    assert stored_config == config and step == 7
    exact = kernel.astype(jnp.bfloat16).astype(np.float32)
    assert np.array_equal(variables["params"]["conv"]["kernel"], exact) and not np.array_equal(exact, kernel)
    assert all(np.array_equal(variables["params"]["head"][name], value) for name, value in others.items())
    files[0].unlink()
    with pytest.raises(CheckpointError, match="parts are missing"):
        small_weights.restore(tmp_path / "back", tmp_path / "again")


def test_one_net_fails(tmp_path, monkeypatch):
    """The other one comes back; a stop by the time limit goes on with both."""
    errors = {"ran": RuntimeError("ran, exit code 1: no memory")}

    def train(arguments, log, until, environment):
        if error := errors.get(log.stem):
            raise error
        (log.with_suffix("") / "run.json").parent.mkdir(exist_ok=True)
        run = {"devices": {"platform": "cpu", "kind": "cpu"}, "source": {}, "versions": {}}
        (log.with_suffix("") / "run.json").write_text(json.dumps(run))

    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(full_size, "train", train)
    monkeypatch.setattr(full_size, "result", lambda workdir: {"net": workdir.name})
    monkeypatch.setattr(pack_faces, "prepare", lambda spec: None)
    monkeypatch.setattr(small_weights, "store", lambda runs, name, folder: [])

    def measured():
        return full_size.measure("source", "", ["ran", "resnet"], tmp_path, 60.0, [])

    assert measured()["nets"] == {"resnet": {"net": "resnet"}} and "no memory" in measured()["note"]
    errors["resnet"] = full_size.Unfinished("resnet was stopped")
    with pytest.raises(full_size.Unfinished):
        measured()
    errors["resnet"] = RuntimeError("resnet too")
    with pytest.raises(RuntimeError, match="no memory; resnet too"):
        measured()
    errors.clear()
    assert len(measured()["nets"]) == 2 and "note" not in measured()


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
    assert {point.fields.get("model.name", "ran56") for point in gpu} == set(models.list())
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


def check_nets(line, tmp_path):
    """The restored runs predict as the trained ones do, and take an evaluation."""
    assert set(line["nets"]) == {"ran", "resnet"} and line["nets"]["ran"]["n"] == 10
    (ran_run, _) = small_weights.restore(tmp_path / "copied", tmp_path / "restored")
    trained, again = loading.load(tmp_path / "dry-run" / "faces" / "ran"), loading.load(ran_run)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    probs = [ensemble.predict(model, variables, images) for model, variables, _ in (trained, again)]
    assert np.array_equal(probs[0].age, probs[1].age) and np.array_equal(probs[0].gender, probs[1].gender)
    source = ("--source=synthetic:100", "--split=test")
    done = programs.run("evaluate", f"--workdir={ran_run}", *source, f"--out={tmp_path / 'evaluation'}")
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "evaluation" / "results.json").read_text())["models"][0]
    assert scores["aabd"] == line["nets"]["ran"]["aabd"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_stopped_training_continues(tmp_path, monkeypatch):
    """At the time limit both nets stop; further starts of the same point end them."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (point,) = (p for p in points.tiny(points.gpu_points(""), tmp_path) if p.program == "benchmarks.full_size")
    point = dataclasses.replace(point, fields=point.fields | {"num_epochs": 40, "eval.every_epochs": 40})
    with pytest.raises(campaign.Unfinished, match="was stopped"):
        campaign.run_apart(dataclasses.replace(point, flags=point.flags | {"seconds": 35}), 600.0)
    point = dataclasses.replace(point, flags=point.flags | {"seconds": 900})
    assert campaign.run_apart(point, 1000.0)["nets"]["ran"]["steps"] == 400


@pytest.mark.slow
def test_packed_faces_have_the_split_of_the_originals(tmp_path):
    faces = synthetic.write_faces(tmp_path / "a", 40, seed=0, size=64)
    Image.open(faces[0]).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "a" / "1_0_0_20170101000000000.jpg")
    for i, path in enumerate(synthetic.write_faces(tmp_path / "b", 20, seed=1, size=64)):
        path.rename(path.with_name(f"{i}.jpg"))
    rows = [f"{i}.jpg,{('0-2', '20-29', 'more than 70')[i % 3]},Male,East Asian" for i in range(20)]
    (tmp_path / "b" / "labels.csv").write_text("\n".join(["file,age,gender,race", *rows]))
    both, cache = f"{tmp_path / 'a'},{tmp_path / 'b'}", str(tmp_path / "cache")
    for source, name in ((str(tmp_path / "a"), "a.tar.gz"), (both, "both.zip"), (str(tmp_path / "b"), "b.zip")):
        assert pack_faces.pack(source, tmp_path / "packed" / name, 48, 80) > 0
        counts = pack_faces.compare_splits(source, str(tmp_path / "packed" / name), cache)
        assert counts["test"] == counts["val"] > 0 and counts["train"] > counts["val"]
    with pytest.raises(DataError, match="labels are in a CSV"):
        pack_faces.pack(both, tmp_path / "packed" / "both.tar.gz", 48, 80)
    packed = tmp_path / "packed" / "both.zip"
    plain = prepare(str(packed), str(tmp_path / "other"))  # without the originals' hashes the split is another one
    with_hashes = pack_faces.prepare(str(packed), cache)
    assert sorted(plain.file) == sorted(with_hashes.file) and set(plain.content).isdisjoint(with_hashes.content)
    assert len(set(with_hashes.group)) == 60  # the mirrored copy is in its original's group
    joined = f"{tmp_path / 'packed' / 'b.zip'},{tmp_path / 'packed' / 'a.tar.gz'}"
    together = pack_faces.prepare(joined, cache)
    assert {file: content for file, content in zip(together.file, together.content, strict=True)} == {
        file: content for file, content in zip(with_hashes.file, with_hashes.content, strict=True)
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_dry_run_of_the_gpu_campaign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    out = tmp_path / "dry.json"
    assert campaign.main(["gpu", "--dry-run", f"--out={out}", f"--copy_to={tmp_path / 'copied'}"]) == 0
    result = [point["result"] for point in json.loads(out.read_text())["points"].values()]
    assert [line["what"] for line in result] == [
        *("limits", "full_size", "resume", "train", "job", "evaluate", "kernels", "input", "fit")
    ]
    by = {line["what"]: line for line in result}
    assert by["resume"]["equal"] and by["resume"]["killed_after"] >= 40 and by["resume"]["arrays"] > 20
    check_nets(by["full_size"], tmp_path)
    copied = sorted(path.name for path in (tmp_path / "copied").iterdir())
    assert copied == ["dry.json", "faces-ran.00.part", "faces-resnet.00.part", "faces.tar.gz"]
    tables_text = tables.all_of(json.loads(out.read_text()))
    assert "| synthetic | levi_hassner | 32 | 8 | bfloat16 | 2 |" in tables_text and "| yes |" in tables_text
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
