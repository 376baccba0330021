"""launch.train in several processes: like one with as many devices, ended together, and user errors reported once."""

import concurrent.futures
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import jax
import numpy as np
import programs
import pytest

from agegender_jax import synthetic
from agegender_jax.checkpoint import load_variables
from agegender_jax.cli import processes as launching
from agegender_jax.errors import ConfigError, DataError, LocalError, NotFiniteError, PeerReportedError, Stopped
from agegender_jax.run.host import processes
from agegender_jax.run.host.signals import StopFlag

ONE_OF_TWO = ("--coordinator=localhost:29500", "--num_processes=2", "--process_id=1")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """A net that compiles quickly, and dropout in it."""
    folder = tmp_path_factory.mktemp("data")
    synthetic.write_faces(folder / "faces", 240, seed=0, size=32)
    unchanged = [argument for argument in programs.SMALL if "num_steps" not in argument]
    return (
        *unchanged,
        "--config.num_steps=36",
        "--config.model.name=levi_hassner",
        "--config.eval.batch_size=9",  # rounded up to ten, the last one padded
        f"--config.data.source={folder / 'faces'}",
        f"--config.data.cache_dir={folder / 'cache'}",
    )


def send_signal_at(number, which, workdir, step=5):
    """Return a function for `during` that sends the signal to process `which` once `step` or a later one is logged."""

    def act(started):
        deadline = time.monotonic() + 200
        while not any(row["step"] >= step for row in programs.rows(workdir)):
            assert time.monotonic() < deadline and all(process.poll() is None for process in started)
            time.sleep(0.02)
        started[which].send_signal(number)

    return act


def assert_same_run(two, one):
    """Lines, weights and predictions of two workdirs, to rounding; everything in `two` was written once."""
    actual, expected = programs.reproducible_rows(two), programs.reproducible_rows(one)
    assert [(row["step"], row["split"]) for row in actual] == [(row["step"], row["split"]) for row in expected]
    np.testing.assert_allclose([row["loss"] for row in actual], [row["loss"] for row in expected], rtol=1e-4)
    (a, _, step), (b, _, _) = (load_variables(workdir / "checkpoints", "latest") for workdir in (two, one))
    assert step == expected[-1]["step"]
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4), a, b)
    a, b = (list(csv.reader((workdir / "predictions.csv").read_text().splitlines())) for workdir in (two, one))
    assert [row[:3] for row in a] == [row[:3] for row in b] and len(a) == 25
    a, b = (np.array([row[5:] for row in rows[1:]], float) for rows in (a, b))
    np.testing.assert_allclose(a, b, atol=1e-4)
    names = {path.name.partition(".tfevents")[0] for path in two.iterdir()}
    assert names == {path.name.partition(".tfevents")[0] for path in one.iterdir()}


@pytest.mark.timeout(600)
def test_two_processes_train_like_two_devices_through_a_stop(arguments, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    command = (*arguments, f"--workdir={two}")
    codes, messages, errors = programs.run_two_processes(*command, during=send_signal_at(signal.SIGTERM, 1, two))
    assert codes == [75, 75] and messages[1] == ""
    assert "stopped at step " in errors[0] and "after saving" in errors[0] and "stopped at" not in errors[1], errors
    step = max(int(path.name) for path in (two / "checkpoints").iterdir())
    assert step % 4 == 0 and f"stopped at step {step} after" in errors[0]
    codes, messages, errors = programs.run_two_processes(*command, "--config.log.figures=True")
    assert codes == [0, 0] and errors == ("", "") and messages[1] == "", errors
    assert f"resumed at step {step} of 36" in messages[0] and "test split of faces, 24 images" in messages[0]
    starts = json.loads((two / "run.json").read_text())["starts"]
    assert [start["devices"]["processes"] for start in starts] == [2, 2]
    assert len(list(two.glob("events*"))) == 2 and (two / "figures" / "confusion_age.png").exists()
    done = programs.run("train", *arguments, f"--workdir={one}", devices=2)
    assert done.returncode == 0, done.stderr
    assert_same_run(two, one)


@pytest.mark.timeout(120)
def test_process_0_leaves_last():
    """So that no other process, however slow, takes the end of the service for a failure."""
    port, reservation = programs.reserved_port()
    script = (
        "import atexit, time; atexit.register(time.sleep, %d)\n"  # after jax has left: it is imported later
        "from agegender_jax.cli import processes\n"
        f"processes.join('localhost:{port}', 2, %d, 60)\n"
        "from jax._src import distributed\n"
        "connected = distributed.global_state.client\n"
    )
    with reservation:
        started = [subprocess.Popen([sys.executable, "-c", script % (3 * i, i)]) for i in range(2)]
        try:
            assert started[0].wait(60) == 0
            assert started[1].wait(1) == 0
        finally:
            for process in started:
                process.kill()


def test_process_0_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(launching, "LINGER", 0.3)
    ended = []
    service = types.SimpleNamespace(shutdown=lambda: ended.append(time.monotonic()))
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket; s = socket.create_connection(('localhost', {port})); input()"
        with subprocess.Popen([sys.executable, "-c", connect], stdin=subprocess.PIPE) as other:
            with server.accept()[0]:
                start = time.monotonic()
                launching._Lingering(service, port).shutdown()
            other.communicate(b"\n")
    assert 0.3 <= ended[0] - start < 5


@pytest.mark.timeout(120)
def test_an_error_in_one_process_ends_both(arguments, tmp_path):
    workdir = tmp_path / "run"
    own = ((), ("--config.data.source=/nowhere",))
    codes, messages, errors = programs.run_two_processes(*arguments, f"--workdir={workdir}", own=own)
    assert codes == [3, 3] and errors[1] == messages[1] == ""
    what, where, fix = errors[0].splitlines()
    assert what == "error: no such data source: /nowhere (process 1)"
    assert where.startswith("  where: looked for") and fix.startswith("  fix:   get UTKFace")
    assert not (workdir / "config.json").exists()


@pytest.mark.parametrize("process", [0, 1])
def test_processes_that_do_not_connect(process, arguments):
    port, reservation = programs.reserved_port()
    flags = ("--num_processes=2", f"--process_id={process}", f"--coordinator=localhost:{port}")
    with reservation:
        done = programs.run("train", *arguments, *flags, "--initialization_timeout=1")
    programs.check(
        done, 2, "not found each other within 1 s\n", f"process {process} of 2\n", "--initialization_timeout"
    )


@pytest.mark.parametrize(
    "values, what",
    [
        (("h:1", None, None), "--num_processes and --process_id are missing"),
        ((None, 2, 0), "--coordinator is missing"),
        ((None, None, 0), "--coordinator and --num_processes are missing"),
        (("h", 2, 0), "'h' is not HOST:PORT"),
        ((":1", 2, 0), "':1' is not HOST:PORT"),
        (("h:x", 2, 0), "'h:x' is not HOST:PORT"),
        (("h:65536", 2, 0), "'h:65536' is not HOST:PORT"),
        (("h:1", 0, 0), "num_processes must be at least 1, got 0"),
        (("h:1", 2, 2), "process_id must be between 0 and 1, got 2"),
        (("h:1", 2, -1), "process_id must be between 0 and 1, got -1"),
    ],
)
def test_impossible_flags(values, what):
    with pytest.raises(ConfigError) as raised:
        launching.join(*values, timeout=1)
    assert raised.value.what == what


def test_flags_that_are_not_numbers_or_lack_others():
    some = programs.run("train", "--config=configs/ran.py", *ONE_OF_TWO[:2])
    programs.check(some, 2, "--process_id is missing", "or none of them")
    programs.check(programs.run("train", "--config=configs/ran.py", "--process_id=one"), 2, "--process_id=one")


SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n1", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    "variables, starts",
    [
        ({}, False),
        (SLURM | {"SLURM_NTASKS": "2"}, True),
        (SLURM | {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2"}, True),
        (SLURM | {"SLURM_NTASKS": "1"}, False),
        (SLURM | {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "1"}, False),  # a shell in an allocation of two tasks
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, False),  # a batch script without srun
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://n1:1", "OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://n1:1", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, False),
    ],
)
def test_the_environment_of_a_cluster(variables, starts, monkeypatch):
    calls = []
    for name in {name for names in launching.CLUSTERS for name in names} | {"SLURM_STEP_NUM_TASKS"}:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *args, **kwargs: calls.append((args, kwargs)))
    launching.join(None, None, None, 300)
    assert len(calls) == starts and all(
        args == () and "cluster_detection_method" not in kwargs for args, kwargs in calls
    )
    launching.join("n1:1", 2, 1, 300)
    assert calls[-1][0] == ("n1:1", 2, 1) and calls[-1][1]["cluster_detection_method"] == "deactivate"


def test_an_error_of_jax_is_reported_in_three_lines(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no route\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(LocalError) as raised:
        launching.join("n1:1", 2, 1, 300)
    assert raised.value.__cause__.what == "the processes have not found each other: no route"
    assert raised.value.__cause__.where == "--coordinator=n1:1, process 1 of 2"


def test_one_process_sends_nothing_and_changes_no_error(monkeypatch):
    for name in ("process_allgather", "broadcast_one_to_all"):
        monkeypatch.setattr(processes.multihost_utils, name, None)
    error, tree = DataError("a", "b", "c"), {"x": np.ones(2)}
    with pytest.raises(DataError) as raised, processes.report_errors_once(), processes.sync_errors():
        raise error
    assert raised.value is error and not error.agreed
    assert (
        processes.broadcast(tree) is tree
        and processes.broadcast_value(error) is error
        and processes.gather_texts("x") == ["x"]
    )
    with processes.sync_errors() as agreed:
        agreed.value = 75
    assert agreed.value == 75


@pytest.fixture
def two_threads(monkeypatch):
    """A function that calls another with 0 and 1 in threads, which exchange their rows as two processes do."""
    own, rows, barrier = threading.local(), [None, None], threading.Barrier(2, timeout=20)

    def allgather(row):
        barrier.wait()
        rows[own.index] = row
        barrier.wait()
        return np.stack(rows)

    def call(function):
        def enter(index):
            own.index = index
            return function(index)

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return list(pool.map(enter, range(2)))

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: own.index)
    monkeypatch.setattr(processes.multihost_utils, "process_allgather", allgather)
    return call


@pytest.mark.parametrize(
    "texts", [("a\0", "\0\0"), ("", "x"), ("\0a\0b", "é" * processes.SIZE), ("a" * processes.SIZE, "\0" * 5000)]
)
def test_texts_arrive_as_they_were_sent(texts, two_threads):
    sent = [text.encode()[: processes.SIZE].decode() for text in texts]
    assert two_threads(lambda index: processes.gather_texts(texts[index])) == [sent, sent]


@pytest.mark.parametrize(
    "error",
    [
        Stopped(75, 40, "x"),
        Stopped(75, 0, "x"),
        Stopped(75, None, "x"),
        Stopped(75, None, ""),
        ConfigError("what", "where", ""),
        DataError("", "", ""),
        NotFiniteError("w" * 5000, "h" * 5000, "f" * 5000, 3),
    ],
    ids=("step_40", "step_0", "no_step", "nothing", "empty_fix", "empty_texts", "long_texts"),
)
@pytest.mark.parametrize("failing", [0, 1])
def test_any_error_of_one_process_reaches_both(error, failing, two_threads):
    def fail(index):
        try:
            with processes.sync_errors():
                if index == failing:
                    raise error
        except Exception as raised:
            return raised

    main, other = two_threads(fail)
    assert type(main) is type(error) and main.agreed and main.code == error.code
    assert type(other) is PeerReportedError and other.code == error.code
    if isinstance(error, Stopped):
        assert (main.step, main.doing, str(main)) == (error.step, error.doing, str(error))
    elif failing:
        cut = processes.SIZE // 4
        assert main.what == f"{error.what[:cut]} (process 1)"
        assert (main.where, main.fix) == (error.where[:cut], error.fix[:cut])


@pytest.mark.parametrize("signalled", [(0,), (1,), (0, 1)])
def test_a_signal_to_any_process_stops_both_between_batches(signalled, two_threads):
    done = [[], []]

    def work(index):
        stop = StopFlag()
        try:
            for batch in processes.until_stopped(range(5), stop, "predicting"):
                done[index].append(batch)
                stop.code = 75 if batch == 1 and index in signalled else None
        except Exception as raised:
            return raised

    main, other = two_threads(work)
    assert isinstance(main, Stopped) and (main.code, main.doing) == (75, "predicting")
    assert isinstance(other, PeerReportedError) and other.code == 75 and done == [[0, 1], [0, 1]]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("driver", ["shard_map", "pmap"])
def test_a_residual_net_through_ctrl_c_in_both_processes(arguments, driver, tmp_path):
    changed = ("--config.model.name=resnet18", f"--config.parallel={driver}", "--config.optimizer.ema=0.9")
    two, one = tmp_path / "two", tmp_path / "one"

    def both(started):
        send_signal_at(signal.SIGINT, 0, two)(started)
        started[1].send_signal(signal.SIGINT)

    codes, _, errors = programs.run_two_processes(*arguments, *changed, f"--workdir={two}", during=both)
    assert codes == [130, 130] and "stopped at step" in errors[0], errors
    codes, _, errors = programs.run_two_processes(*arguments, *changed, f"--workdir={two}")
    assert codes == [0, 0], errors
    assert programs.run("train", *arguments, *changed, f"--workdir={one}", devices=2).returncode == 0
    assert_same_run(two, one)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_processes_stop_while_data_are_prepared(arguments, tmp_path):
    own = [(f"--config.data.cache_dir={tmp_path / str(i)}", "--config.data.source=synthetic") for i in range(2)]

    def both(started):
        while not all(list((tmp_path / str(i)).glob(".synthetic-*/*")) for i in range(2)):
            time.sleep(0.02)
        for process in started:
            process.send_signal(signal.SIGTERM)

    codes, _, errors = programs.run_two_processes(*arguments, f"--workdir={tmp_path / 'run'}", own=own, during=both)
    assert codes == [75, 75] and "stopped while drawing faces" in errors[0] and "Traceback" not in "".join(errors)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_and_the_run_resumes(arguments, victim, tmp_path):
    workdir = tmp_path / "run"
    kill = send_signal_at(signal.SIGKILL, victim, workdir)
    start = time.monotonic()
    codes, _, _ = programs.run_two_processes(*arguments, f"--workdir={workdir}", during=kill)
    assert codes[victim] == -signal.SIGKILL and codes[1 - victim] not in (0, 75), codes
    print(f"process {1 - victim} ended with {codes[1 - victim]}, {time.monotonic() - start:.0f} s after the start")
    assert programs.run("train", *arguments, f"--workdir={workdir}").returncode == 0  # one process, one device
    steps = [row["step"] for row in programs.rows(workdir) if row["split"] == "train"]
    assert steps == sorted(set(steps)) and steps[-1] == 36


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_user_errors_are_reported_by_process_0(arguments, tmp_path):
    workdir = f"--workdir={tmp_path / 'run'}"

    def fails(code, *texts, own=((), ()), changes=()):
        codes, _, errors = programs.run_two_processes(*arguments, workdir, *changes, own=own)
        assert codes == [code, code] and errors[1] == "" and len(errors[0].splitlines()) == 3, errors
        for text in texts:
            assert text in errors[0], errors[0]

    synthetic.write_faces(tmp_path / "others", 60, seed=1, size=32)
    fails(2, "different configs: process 1 has not that of process 0", own=((), ("--config.seed=1",)))
    fails(3, "different data: process 1", own=((), (f"--config.data.source={tmp_path / 'others'}",)))
    fails(2, "batch_size 15 cannot be shared evenly by 2 devices", changes=("--config.batch_size=15",))
    fails(2, "the workdir cannot be used", own=(("--workdir=/dev/null/run",), ()))
    wild = ("--config.optimizer.name=sgd", "--config.optimizer.lr=1e30", "--config.optimizer.clip_norm=0")
    fails(5, "not finite", changes=wild)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_slurm_needs_no_flags(arguments, tmp_path):
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    tasks = [job | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(2)]
    codes, _, errors = programs.run_two_processes(*arguments, f"--workdir={tmp_path / 'run'}", environments=tasks)
    assert codes == [0, 0], errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["devices"]["processes"] == 2
