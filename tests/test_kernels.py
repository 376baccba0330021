"""The kernels in a trace of a GPU, and the memory traffic of a net's layers."""

import gzip
import json
import os

import pytest

from agegender_jax.configs import ran
from agegender_jax.errors import ConfigError
from benchmarks import (
    kernels,
    layers,
    points,
)


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


def test_the_summary_of_layers_compares_with_pytorch():
    entry = {"layer": "3x3/1, 8x8, 4 to 4", "calls": 2, "gflop": 1.0, "bound": 1.0, "ours": 6.0, "lax": 6.0}
    entry |= {"value_ours": 2.0, "value_lax": 2.0}
    pool = entry | {"layer": "pool, 8x8, 4"}
    in_torch = entry | {"torch": 3.0, "value_torch": 4.0}
    cells = [line.split(" | ") for line in layers.summary({"nets": {"net": [in_torch, pool]}}).splitlines()]
    assert cells[2][2] == "12 ms, 0.50, 0.50" and cells[3][2] == "4 ms, 0.50, 2.00"
    assert cells[2][4] == "12 ms, 0.50" and cells[2][6] == "24 ms, 0.50 |"
    assert layers.table({"nets": {"net": [in_torch]}}).splitlines()[2].endswith("| 0.50 | 2.00 |")


def test_a_layer_in_pytorch(monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(layers, "_tries", lambda: range(1))
    call = layers.Layer("convolution", ((2, 8, 6, 3), (3, 3, 3, 4)), ((2, 1), ((1, 1), (0, 0))))
    assert all(0 < time < 1e4 for time in layers.measure_in_torch(call).values())
    assert layers.measure_in_torch(layers.Layer("pool", ((2, 8, 8, 3),), (((1, 1), (1, 1)), 3, 2))) == {}
