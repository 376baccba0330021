"""Eight CPU devices for every test, quick compilation, and its results kept while the tests run."""

import os
import tempfile

if "COMPILED_BY_TESTS" not in os.environ:  # the processes that the first one starts use its folder
    KEPT = tempfile.TemporaryDirectory(prefix="compiled-")
    os.environ["COMPILED_BY_TESTS"] = KEPT.name
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["COMPILED_BY_TESTS"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=0"  # programs start once, not twice


FIRST = ("test_resume", "test_processes", "test_ablate", "test_launch", "test_training", "test_campaign")  # the slowest


def pytest_configure(config):
    config.option.loadscopereorder = False  # files with the most tests first


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.stem not in FIRST)
