"""Settings of all tests: eight CPU devices, quick compilation into a shared folder, and which tests may be skipped.

AGEGENDER_XLA_DEFAULT=1 compiles with XLA's default optimisations, as users do; several times slower.
"""

import collections
import importlib.metadata
import os
import re
import tempfile

from agegender_jax.run.host import ynnpack

if "COMPILED_BY_TESTS" not in os.environ:  # the processes that the first one starts use its folder
    COMPILED = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["COMPILED_BY_TESTS"] = COMPILED.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["COMPILED_BY_TESTS"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PLATFORMS"] = "cpu"
QUICK = ["--xla_backend_optimization_level=0", "--xla_cpu_parallel_codegen_split_count=1"]
if importlib.metadata.version("jaxlib").startswith(("0.8.", "0.10.")):  # unknown to 0.12
    QUICK.append("--xla_cpu_use_fusion_emitters=false")  # half of the time to compile
FLAGS = ["--xla_force_host_platform_device_count=8", *([] if os.environ.get("AGEGENDER_XLA_DEFAULT") else QUICK)]
os.environ["XLA_FLAGS"] = " ".join(FLAGS)
ynnpack.avoid()  # as the programs do, so that their results and those of functions in tests are the same
os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"  # programs start once, not twice

SLOWEST_FIRST = (  # files of 15 CPU seconds and more, so that both workers end together
    *("test_models", "test_launch", "test_layers", "test_processes", "test_launch_explain", "test_launch_evaluate"),
    *("test_attributions", "test_resume", "test_parallel", "test_learning", "test_training", "test_faults"),
    *("test_platforms", "test_points", "test_ablate", "test_map_scores", "test_accumulation", "test_regularisation"),
    "test_docs",
)
ALLOWED_SKIPS = {  # reason: where such a test runs
    r"pip install torch|PyTorch is (not installed|the other side of the comparison)": "where PyTorch is installed",
    r"torch is installed": "where PyTorch is not installed",
    r"AGEGENDER_DATA names no crop_part1\.tar": "where AGEGENDER_DATA is the path of crop_part1.tar",
    r".*Chromium.*": "where Chromium is installed",
    r"gradio is not installed": "after pip install 'agegender-jax[demo]'",
    r"ray is not installed": "after pip install 'agegender-jax[ray]'",
    r"OpenCV is not installed": "after pip install 'agegender-jax[photos]'",
    r"(ONNX Runtime|jax2onnx) is not installed": "after pip install 'agegender-jax[onnx]'",
    r"scikit-learn is not installed": "after pip install 'agegender-jax[baselines]'",
    r"no tar program|strace is not installed": "where that program is installed",
    r"root reads everything": "as another user than root",
    r"root cannot give up its rights here|file systems cannot be mounted here": "with the rights to do so",
    r"this system offers no large pages": "on Linux with transparent huge pages",
    r"PyPI's vulnerability service is not reachable": "with access to pypi.org",
    r"uv is not installed": "after pip install uv",
    r"this machine has no IPv6": "where IPv6 is on",
}


def pytest_configure(config):
    config.option.loadscopereorder = False  # files with the most tests first


def pytest_collection_modifyitems(items):
    position = {name: i for i, name in enumerate(SLOWEST_FIRST)}
    items.sort(key=lambda item: position.get(item.path.stem, len(position)))


def pytest_sessionfinish(session):
    """Fail if a test was skipped for a reason that is not listed."""
    if session.exitstatus == 0 and any(not allowed for _, allowed in skips(session.config)):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    counts = collections.Counter(skips(config))
    if counts:
        terminalreporter.section("skipped")
    for (reason, allowed), count in counts.items():
        terminalreporter.line(f"{count} x {reason}: {f'runs {allowed}' if allowed else 'UNEXPECTED, so the run fails'}")


def skips(config):
    """Yield (reason, where the test runs, or None if the reason is not allowed) of each skipped test."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    for report in reporter.stats.get("skipped", ()) if reporter else ():
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        yield reason, next((where for pattern, where in ALLOWED_SKIPS.items() if re.fullmatch(pattern, reason)), None)
