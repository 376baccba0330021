"""A signal stops a command in every phase, with nothing lost; a second one leaves at once."""

import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import programs
import pytest
import small_run

from agegender_jax import report
from agegender_jax.checkpoint import Checkpoints
from agegender_jax.errors import Stopped
from agegender_jax.run import audit, evaluate, train
from agegender_jax.run.host import processes
from agegender_jax.run.host import signals as stop_signals
from agegender_jax.run.host.progress import Progress
from agegender_jax.run.host.signals import StopFlag, stop_flag
from agegender_jax.run.training import evaluation_schedule

# Waits as a long compilation does, which looks at no flag; `{then}` runs meanwhile.
PROGRAM = """
import signal, threading, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, which may have started the tests, has it ignored
from agegender_jax.run.host.signals import StopFlag
with StopFlag(owns_process={owns}) as stop:
    stop.begin(1, 0.3)
    {then}
    print("ready", flush=True)
    time.sleep(60)
"""


def start(then="pass", owns=True):
    command = [sys.executable, "-c", PROGRAM.format(then=then, owns=owns)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=programs.ROOT)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_process_with_nothing_unsaved_leaves_after_the_grace(number, code):
    with start() as process:
        process.send_signal(number)
        assert process.wait(20) == code
        errors = process.stderr.read()
        assert "nothing has to be saved" in errors and "stopped with nothing unsaved" in errors


def test_a_process_with_an_unsaved_step_leaves_at_the_second_signal_only():
    with start("stop.trained = 2") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)  # at once again, as schedulers do
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "stopping after this step, once it is saved; a second signal" in process.stderr.read()


def test_a_process_leaves_once_the_step_is_saved():
    with start("stop.trained = 2; threading.Timer(1.5, stop.mark_saved, [2]).start()") as process:
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 75 and time.monotonic() - started > 1


def test_a_process_of_another_program_is_interrupted_but_not_ended():
    with start(owns=False) as process:
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) not in (0, 75) and "KeyboardInterrupt" in process.stderr.read()


def test_handlers_are_put_back_and_shared():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with stop_flag() as outer:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as jax.distributed does
        with stop_flag() as inner:
            assert inner is outer
            signal.raise_signal(signal.SIGTERM)
        assert outer.code == 75
        with pytest.raises(Stopped, match="^stopped while reading; the same command resumes$"):
            outer.check("reading")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    with stop_flag() as another:
        assert another is not outer and another.code is None


def test_a_hangup_that_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopFlag() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.code is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_changes():
    codes = []

    def body():
        with StopFlag() as stop:
            codes.append(stop.code)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert codes == [None]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return small_run.config(tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    train.fit(config, str(workdir), [])
    return workdir


class Signals:
    """Send SIGTERM when a phase is reached for the first time."""

    def __init__(self, monkeypatch):
        self.phase = None
        prepare, until_stopped = Progress.prepare, processes.until_stopped

        def watched_prepare(progress, done, total, text):
            self.reached(text)
            prepare(progress, done, total, text)

        def watched_batches(batches, stop, doing, step=None):
            def watched():
                for batch in batches:
                    yield batch
                    self.reached(doing if step is None else f"{doing} step {step}")

            return until_stopped([*watched()], stop, doing, step)

        monkeypatch.setattr(Progress, "prepare", watched_prepare)
        monkeypatch.setattr(processes, "until_stopped", watched_batches)

    def reached(self, text):
        if self.phase and text.startswith(self.phase):
            self.phase = None
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self, phase, job, *args, **kwargs):
        """Run the job; return the message with which it stops in the phase."""
        self.phase = phase
        with pytest.raises(Stopped) as raised:
            job(*args, **kwargs)
        assert raised.value.code == 75 and self.phase is None
        return str(raised.value)


@pytest.fixture
def signals(monkeypatch):
    return Signals(monkeypatch)


PREPARATION = (
    "checking images",
    "finding near-duplicates",
    "writing the prepared images",
    "resizing",
)


@pytest.mark.timeout(300)
def test_a_run_stopped_in_every_phase_ends_as_one_that_was_not(config, undisturbed, signals, tmp_path):
    config = config.copy_and_resolve_references()
    workdir = tmp_path / "stopped"
    config.data.cache_dir = str(tmp_path / "cache")
    for phase in PREPARATION:
        assert f"stopped while {phase}" in signals.stop(phase, train.fit, config, str(workdir), [])
    assert not programs.rows(workdir)
    for step in (3, 6):
        phase = f"validating step {step}"
        assert f"stopped at step {step} after saving" in signals.stop(phase, train.fit, config, str(workdir), [])
        assert programs.rows(workdir)[-1]["split"] == "train" and programs.rows(workdir)[-1]["step"] == step
    for split in ("val", "test"):
        phase = f"predicting the {split} split"
        assert f"stopped while {phase}" in signals.stop(phase, train.fit, config, str(workdir), [])
    train.fit(config, str(workdir), [])
    assert programs.reproducible_rows(workdir) == programs.reproducible_rows(undisturbed)
    assert (workdir / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["3", "6"]


class Left(BaseException):
    """Instead of the end of the process."""


def test_a_run_stopped_while_it_draws_leaves(config, undisturbed, tmp_path, monkeypatch):
    """Nothing looks at the flag while figures are drawn, but all steps are saved."""
    workdir = shutil.copytree(undisturbed, tmp_path / "run")
    (workdir / "results.json").unlink()
    config = config.copy_and_resolve_references()
    config.log.figures = True
    codes = queue.Queue()

    def draw(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise Left(codes.get(timeout=10))

    monkeypatch.setitem(vars(report), "draw", draw)
    monkeypatch.setattr(stop_signals, "_leave", lambda code, message: codes.put(code))
    monkeypatch.setattr(train, "GRACE", train.GRACE / 20)  # leaves within 10 s
    with stop_signals.stop_flag(owns_process=True), pytest.raises(Left, match="75"):
        train.fit(config, str(workdir), [])
    assert not (workdir / "results.json").exists()


@pytest.mark.slow
def test_a_program_stopped_while_it_draws_leaves_and_finishes_later(tmp_path):
    """Only figures load matplotlib; SIGSTOP replaces a machine that draws for longer than the grace."""
    workdir, errors = tmp_path / "run", tmp_path / "stderr"
    sizes = ("--config.model.name=levi_hassner", "--config.num_steps=2", "--config.log.figures=True")
    data = ("--config.data.source=synthetic:60", f"--config.data.cache_dir={tmp_path / 'cache'}")
    arguments = (*programs.SMALL, *sizes, *data, f"--workdir={workdir}")
    command, env = programs.command("train", *arguments), programs.environment()
    with open(errors, "w") as stderr:
        process = subprocess.Popen(command, cwd=programs.ROOT, env=env, stdout=subprocess.DEVNULL, stderr=stderr)

    def wait_until(reached):
        while not reached():
            assert process.poll() is None, errors.read_text()
            time.sleep(0.01)

    try:
        wait_until(lambda: "_backend_agg" in pathlib.Path(f"/proc/{process.pid}/maps").read_text())
        assert not (workdir / "results.json").exists()
        process.send_signal(signal.SIGTERM)
        sent = time.monotonic()
        wait_until(lambda: "nothing has to be saved" in errors.read_text())
        process.send_signal(signal.SIGSTOP)
        time.sleep(stop_signals.GRACE + 0.5)
        process.send_signal(signal.SIGCONT)
        assert process.wait(10) == 75 and time.monotonic() - sent < 10
    finally:
        process.kill()
        process.wait()
    assert "stopped with nothing unsaved; the same command resumes" in errors.read_text()
    assert not (workdir / "results.json").exists()
    trained = programs.rows(workdir)
    done = programs.run("train", *arguments)
    assert done.returncode == 0 and programs.rows(workdir) == trained, done.stderr
    assert (workdir / "results.json").exists() and (workdir / "figures" / "curves.png").exists()


def test_a_run_killed_between_the_log_of_scores_and_their_save_logs_them_once(
    config, undisturbed, tmp_path, monkeypatch
):
    def die(checkpoints, step, metrics):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "add_metrics", die)
        with pytest.raises(RuntimeError, match="killed"):
            train.fit(config, str(tmp_path), [])
    assert programs.rows(tmp_path)[-1]["split"] == "val"
    train.fit(config, str(tmp_path), [])
    assert programs.reproducible_rows(tmp_path) == programs.reproducible_rows(undisturbed)


def test_other_jobs_stop_too(config, undisturbed, signals, tmp_path):
    options = {"out": str(tmp_path / "out"), "workdirs": [], "split_seed": 0, "command": []}
    for phase in ("checking images", "measuring the images"):
        signals.stop(phase, audit.inspect, config.data.source, cache_dir=str(tmp_path / "cache"), **options)
    options = {"source": None, "split": "val", "checkpoint": "best", "out": str(tmp_path / "out"), "allow_leak": True}
    signals.stop("predicting the val split", evaluate.evaluate, [str(undisturbed)], **options)


def test_a_program_stops_while_it_reads(tmp_path):
    process = programs.fork("audit", "--source=synthetic", f"--out={tmp_path}", f"--cache_dir={tmp_path}")
    try:
        while "drawing faces" not in process.outputs()[0]:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 75
        errors = process.outputs()[1]
    finally:
        process.kill()
    assert "stopped while drawing faces; the same command resumes" in errors and "Traceback" not in errors


def test_periodic_saves_stay_apart(config):
    config = config.copy_and_resolve_references()
    config.checkpoint.every_steps = 10
    for epoch, expected in (
        (12, [12, 24, 30, 36, 48, 60]),
        (50, [10, 20, 30, 40, 50, 60]),
        (9, [9, 18, 27, 36, 45, 54, 60]),
    ):
        steps = evaluation_schedule.Schedule(config, epoch, 60, 0)
        saved = [step for step in range(1, 61) if steps.saves(step)]
        assert saved == expected and min(np.diff(saved)) >= 5, (epoch, saved)
    for epoch in range(1, 40):  # docs/reliability.md
        steps = evaluation_schedule.Schedule(config, epoch, 200, 0)
        assert max(np.diff([0, *(step for step in range(1, 201) if steps.saves(step))])) < 20, epoch


def test_a_run_that_is_resumed_with_fewer_steps_than_it_has_done_is_evaluated(config):
    steps = evaluation_schedule.Schedule(config, 50, 20, 30)
    assert steps.evaluates(30) and steps.saves(30) and not steps.evaluates(19)
