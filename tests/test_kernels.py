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
