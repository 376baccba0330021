import errno
import json
import math
import os
import pathlib
import struct
import subprocess
import sys

import pytest
from tensorboardX.proto import event_pb2

from agegender_jax.run.workdir import Workdir
from agegender_jax.run.workdir.metrics_log import MetricsLog, TensorBoard


def test_a_resume_removes_later_and_incomplete_lines(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (10, 20, 30):
        log.append({"step": step, "split": "train", "loss": 1.0})
    with open(log.path, "a") as file:
        file.write('{"step": 40, "spl')
    assert [row["step"] for row in log.read()] == [10, 20, 30]
    log.truncate_after(20)
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [10, 20]
    log.append({"step": 30, "split": "val", "loss": 2.0})
    assert [row["step"] for row in log.read()] == [10, 20, 30]


def test_not_a_number_is_null(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "split": "val", "loss": math.nan, "aabd": math.inf})
    assert log.path.read_text() == '{"step": 1, "split": "val", "loss": null, "aabd": null}\n'


def test_events_contain_the_numbers(tmp_path):
    board = TensorBoard(tmp_path)
    board.append({"step": 3, "split": "train", "loss": 0.5, "collapsed": ["age"]})
    board.close()
    (path,) = tmp_path.glob("events.out.tfevents*")
    assert b"train/loss" in path.read_bytes() and b"collapsed" not in path.read_bytes()


@pytest.mark.timeout(30)  # a thread that has ended would be waited for
def test_events_that_cannot_be_written_are_left_out(tmp_path, monkeypatch):
    calls = []

    def fail(writer, data):
        calls.append(writer)
        raise OSError(errno.ENOSPC, "No space left on device")

    board = TensorBoard(tmp_path)
    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.write", fail)
    for step in range(1, 100):
        board.append({"step": step, "split": "train", "loss": 0.5, "loss_age": 0.25})
    board.close()
    assert len(calls) == 1


def test_a_resume_hides_later_events(tmp_path):
    TensorBoard(tmp_path, start=7).close()
    (path,) = tmp_path.glob("events.out.tfevents*")
    data, events, place = path.read_bytes(), [], 0
    while place < len(data):
        (length,) = struct.unpack("<Q", data[place : place + 8])
        events.append(event_pb2.Event.FromString(data[place + 12 : place + 12 + length]))
        place += length + 16
    assert [event.step for event in events] == [0, 8, 8] and events[2].session_log.status == event_pb2.SessionLog.START


def test_events_need_no_pytorch_where_there_is_one(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('imported')")
    program = "from agegender_jax.run.workdir.metrics_log import TensorBoard; TensorBoard('events'); import torch"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(pathlib.Path(__file__).parents[1])])}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == "imported\n" and list((tmp_path / "events").iterdir())


def test_partial_files_of_killed_processes_are_removed(tmp_path):
    dead, alive, own = (tmp_path / name for name in (f".run.json.{2**22 + 1}.tmp", ".run.json.1.tmp", ".notes.tmp"))
    below = [tmp_path / place / dead.name for place in ("figures", "checkpoints/3")]
    for path in (dead, alive, own, *below):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{")
    with Workdir(tmp_path):
        assert alive.exists() and own.exists() and not any(path.exists() for path in (dead, *below))
