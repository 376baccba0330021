"""The compilation cache that the programs turn on."""

import os
import subprocess
import sys

import jax
import programs
import pytest

from agegender_jax.run.host import compile_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs", "jax_enable_compilation_cache")
PROGRAM = """
import jax
from agegender_jax.run.host import compile_cache
compile_cache.turn_on()
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name))
assert float(jax.jit(lambda x: x * 3 + 1)(2.0)) == 7
print(seen.count("/jax/compilation_cache/cache_hits") > 0)
"""


@pytest.fixture
def config(monkeypatch, tmp_path):
    """JAX as a user starts it, with a cache folder of the test's own."""
    before = {name: getattr(jax.config, name) for name in NAMES}
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
    yield jax.config
    for name, value in before.items():
        jax.config.update(name, value)


def test_on_by_default(config, tmp_path):
    folder = compile_cache.turn_on()
    assert folder.is_dir() and folder.parent == tmp_path / "agegender_jax" / "compiled"
    assert folder.stat().st_mode & 0o077 == 0
    assert config.jax_compilation_cache_dir == str(folder) and config.jax_persistent_cache_min_compile_time_secs == 0


def test_settings_of_the_user_take_precedence(config, tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "1.0")
    assert compile_cache.turn_on() and config.jax_persistent_cache_min_compile_time_secs == 1
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert compile_cache.turn_on() is None and config.jax_compilation_cache_dir == str(tmp_path / "own")
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert compile_cache.turn_on() is None and config.jax_compilation_cache_dir is None
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    jax.config.update("jax_enable_compilation_cache", False)
    assert compile_cache.turn_on() is None and config.jax_compilation_cache_dir is None


def test_no_folder_no_cache(config, tmp_path, monkeypatch):
    (tmp_path / "agegender_jax").write_text("a file")
    assert compile_cache.turn_on() is None and config.jax_compilation_cache_dir is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    assert compile_cache.turn_on() is None


def test_least_recently_used_programs_are_removed_first(tmp_path):
    for age, name in enumerate(("new", "middle", "old")):
        (tmp_path / name).write_bytes(bytes(10))
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    compile_cache.trim(tmp_path, 30)
    assert len(list(tmp_path.iterdir())) == 3
    compile_cache.trim(tmp_path, 15)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def start():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=programs.ROOT, env=environment, capture_output=True, text=True
    )


def test_the_next_start_loads_and_damage_only_costs_time(config, tmp_path):
    assert start().stdout.split() == ["False"]
    assert start().stdout.split() == ["True"]
    entries = [path for path in tmp_path.rglob("*") if path.is_file()]
    for path in entries:
        path.write_bytes(path.read_bytes()[:20])
    damaged = start()
    assert entries and damaged.returncode == 0 and damaged.stdout.split() == ["False"]


def test_the_programs_use_the_cache(config, tmp_path):
    arguments = ("--config=configs/resnet.py", f"--config.data.source={tmp_path / 'nothing'}")
    assert programs.start("train", *arguments, f"--workdir={tmp_path / 'run'}").returncode == 3
    assert list((tmp_path / "agegender_jax" / "compiled").iterdir())
