"""The points of the campaigns: commands, order, sizes, and the tables of their results."""

import pytest

from agegender_jax import config as config_lib
from agegender_jax import models, synthetic
from agegender_jax.configs import best
from benchmarks import campaign, machine, points, tables


def test_the_points_of_the_campaigns():
    train = [p for p in points.cpu_points() if p.flags.get("what") == "train"]
    assert len(train) == 18 and len({point.command for point in points.cpu_points()}) == 3 * 6 + 3 * 3 + 1
    assert train[0].command == (
        "python -m launch.benchmark --config=configs/ran.py --config.model.name=resnet18 --config.data.image_size=64 "
        "--config.model.dtype=float32 --config.batch_size=16 --what=train --steps=30 --against=torch"
    )
    gpu = points.gpu_points()
    assert all(point.seconds <= point.limit < 180 for point in gpu)
    assert len({point.command for point in gpu}) == len(gpu)
    assert [(p.program.partition(".")[2], p.flags.get("net") or p.flags.get("what")) for p in gpu[:7]] == [
        *(("limits", None), ("full_size", "resnet"), ("full_size", "ran"), ("resume", None)),
        *(("benchmark", "train"), ("job", None), ("benchmark", "evaluate")),
    ]
    assert [p.stage for p in gpu] == sorted(p.stage for p in gpu) and gpu[6].stage < gpu[7].stage
    assert gpu[0].limit + machine.STARTING <= 70 and gpu[0].seconds <= 30
    assert [(p.fields["model.name"], p.fields["batch_size"]) for p in gpu if p.flags.get("what") == "train"][:4] == [
        *(("resnet50", 256), ("ran56", 256), ("resnet50", 16), ("ran56", 16))
    ]
    assert {point.fields.get("model.name", "ran56") for point in gpu} == set(models.names())
    assert gpu[1].command == (
        "python -m benchmarks.full_size --config.log.figures=False --config.eval.every_epochs=5 "
        "--net=resnet --source=runs/gpu/data/crop_part1.zip --folder=runs/gpu/crop_part1"
    )
    assert gpu[1].needs == gpu[3].needs == gpu[5].needs == ("runs/gpu/data/crop_part1.zip",)
    trained = [point for point in gpu if point.program == "benchmarks.full_size"]
    assert [len(point.needs) for point in trained] == [1, 1, 1, 2, 1, 2]
    for point in trained:
        config = best.get_config(f"{point.flags['net']},gpu")
        config.update_from_flattened_dict(point.fields)
        config_lib.validate(config)
        assert config.model.width == 1 and config.model.dtype == "bfloat16"
    named = points.gpu_points("crop_part1.tar")
    assert not any(point.needs for point in named if point.fields.get("data.source") == "crop_part1.tar")


def test_tiny_points_keep_the_nets_and_the_recipe(tmp_path):
    """Of each kind and, in full_size, of each net; only its size is another."""
    small = list(points.tiny(points.gpu_points(), tmp_path))
    assert {point.flags["net"] for point in small if point.program == "benchmarks.full_size"} == {"ran", "resnet"}
    assert [point.program.partition(".")[2] for point in small] == [
        *("limits", "full_size", "full_size", "resume", "benchmark", "job", "benchmark", "kernels"),
        *("benchmark", "benchmark"),
    ]
    compared = [point for point in small if point.flags.get("what") in ("train", "evaluate")]
    assert [point.flags["against"] for point in compared] == ["torch"] * 2
    assert not any("augment.mixup" in point.fields for point in small)


def test_the_points_of_the_fit_campaign():
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


def test_the_kernels_are_measured_by_a_program():
    line = campaign.run_apart(points.Point("benchmarks.kernels", points.TINY, {"steps": 1}), 200)
    assert line["what"] == "kernels" and line["model"] == "levi_hassner" and line["kernels"]


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
