"""Check the fields of a line that launch.benchmark prints for the smallest net."""

import jax
import pytest

from benchmarks import feeding

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


def check_line(what, line, dtype="float32"):
    assert {key: type(line[key]) for key in KEYS} == KEYS
    expected = (what, "levi_hassner", 32, 8, dtype, "cpu", 1 if what == "evaluate" else jax.device_count())
    assert tuple(line.values())[: len(expected)] == expected
    step = line["step_ms"]
    assert 0 < step["min"] <= step["median"] <= step["max"]
    assert line["ratio_to_torch"] is None and line["versions"]["jax"] == jax.__version__
    assert line["steps"] == (feeding.LOG_LINES if what == "fit" else 3)
    assert line["images_per_second"] > 0 and line["peak_memory_mb"] > 0
    if what in ("train", "evaluate"):
        assert line["images_per_second"] == pytest.approx(1000 * line["batch_size"] / step["median"])
        assert line["gflops_per_second"] == pytest.approx(1000 * line["gflops"] / step["median"])
        assert line["compile_s"] > 0
    if what == "fit":
        ratios = line["block_ratios"]
        assert 0 < ratios["min"] <= line["of_step_alone"] <= ratios["max"]
        assert 0 <= line["data_wait"] <= 1 and line["compile_s"] > 0 and line["start_s"] > 0
