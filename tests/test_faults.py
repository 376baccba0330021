"""Effects of other programs, users and limits on a run: it works, or ends with three lines and no stack trace."""

import errno
import os
import pwd
import subprocess
import sys
import warnings

import programs
import pytest
import small_run
from programs import check

from agegender_jax import files
from agegender_jax.checkpoint import initial_weights
from agegender_jax.cli import exits
from agegender_jax.cli.__main__ import COMMANDS
from agegender_jax.errors import CheckpointError, ConfigError, DataError, UserError, is_disk_full
from agegender_jax.run import audit, evaluate, train
from agegender_jax.run.host import devices, interpreter, processes
from agegender_jax.run.workdir import Workdir

FULL_TEXTS = (
    "RESOURCE_EXHAUSTED: Error writing: Failed writing [os_error_code='28'] [source locations='file_util.cc:1']",
    'Error writing "a/b": [OS error 28: No space left on device]',
    "tensorflow: /cache/x.array_record; No space left on device",
    "write failed: Disk quota exceeded",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return small_run.config(tmp_path_factory.mktemp("faults"))


def small_arguments(config):
    return (
        "--config=resnet",
        "--config.model.name=levi_hassner",
        "--config.model.width=0.125",
        "--config.data.image_size=32",
        "--config.num_steps=1",
        f"--config.data.source={config.data.source}",
        f"--config.data.cache_dir={config.data.cache_dir}",
    )


@pytest.mark.parametrize(
    "options",
    [(), pytest.param(("-OO",), marks=pytest.mark.slow)],  # whose byte code is not there yet
)
def test_a_hostile_environment_changes_nothing(config, options, tmp_path):
    variables = {
        "MPLBACKEND": "nonsense",
        "MATPLOTLIBRC": "/nowhere/matplotlibrc",
        "MPLCONFIGDIR": "/proc/matplotlib",
        "PYTHONWARNINGS": "error",
        "COLUMNS": "abc",
        "TERM": "dumb",
        "NO_COLOR": "1",
        "LC_ALL": "C",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "ascii:strict",
        "TMPDIR": "/nowhere",
        "TF_CPP_MIN_LOG_LEVEL": "abc",
        "GLIBC_TUNABLES": "nonsense",
    }
    arguments = (*small_arguments(config), f"--workdir={tmp_path / 'run'}")
    done = programs.start("train", *arguments, python=(*options, "-X", "utf8=0"), variables=variables)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "run" / "figures" / "curves.png").exists()
    assert (tmp_path / "run" / "results.json").exists() and "test split of faces" in done.stdout


def test_only_harmful_settings_are_removed_from_the_environment(monkeypatch):
    monkeypatch.setattr(warnings, "filters", [("error", None, Warning, None, 0), ("ignore", None, Warning, None, 0)])
    for name, value in {"MPLBACKEND": "x", "MATPLOTLIBRC": "y", "COLUMNS": "120", "PYTHONWARNINGS": ""}.items():
        monkeypatch.setenv(name, value)
    interpreter.settle_environment()
    assert os.environ["MPLBACKEND"] == "agg" and "MATPLOTLIBRC" not in os.environ and os.environ["COLUMNS"] == "120"
    kinds = [entry[0] for entry in warnings.filters]
    assert kinds == ["ignore", "error", "ignore"]  # those of the command line, python -W error, are meant
    assert warnings.filters[0][3].match("PIL.TiffImagePlugin")  # its warnings name no picture
    monkeypatch.setenv("PYTHONWARNINGS", "default,error::DeprecationWarning")
    interpreter.settle_environment()
    assert [entry[0] for entry in warnings.filters] == ["ignore", "ignore"]


@pytest.mark.parametrize("name, value", [("JAX_ENABLE_X64", "maybe"), ("JAX_NUMPY_RANK_PROMOTION", "nonsense")])
def test_a_setting_that_jax_refuses(name, value, tmp_path):
    done = programs.start("audit", f"--source={tmp_path}", f"--out={tmp_path}", variables={name: value})
    check(done, 2, "jax refuses a setting", value, name)


@pytest.mark.parametrize("platform", ["cuda", "tpu,nonsense"])
def test_a_missing_device(platform, tmp_path):
    done = programs.start(
        "audit",
        f"--source={tmp_path}",
        f"--out={tmp_path}",
        variables={"JAX_PLATFORMS": platform, "TPU_SKIP_MDS_QUERY": "1"},
    )
    check(done, 2, f"jax has no device of the platform {platform}", "unset JAX_PLATFORMS", "[cuda12]")


@pytest.mark.parametrize("error", [AssertionError(), RuntimeError("Unable to initialize backend\nmore")])
def test_any_error_of_jax_without_a_device(error, monkeypatch):
    def fail():
        raise error

    devices.check()
    monkeypatch.setattr(devices.jax, "devices", fail)
    monkeypatch.setenv("JAX_PLATFORMS", "")
    with pytest.raises(ConfigError, match="jax has no device") as raised:
        devices.check()
    assert "\n" not in raised.value.what


@pytest.mark.parametrize(
    "file", [*(f"agegender_jax/cli/{name}.py" for name in sorted(COMMANDS)), "benchmarks/command.py"]
)
def test_every_command_checks_the_device_first(file):
    text = (programs.ROOT / file).read_text()
    before, imports_jax, _ = text.partition("  # imports jax")
    assert "app.prepare_jax(" in before or not imports_jax and "agegender_jax.run" not in text


def test_every_program_is_a_shim_of_a_command():
    for path in (programs.ROOT / "launch").glob("[!_]*.py"):
        module = "command" if path.stem == "benchmark" else path.stem
        assert path.read_text().endswith(f'if __name__ == "__main__":\n    app.run({module})\n')


@pytest.mark.parametrize("path", ["~nosuchuser", "~nosuchuser/x", "~/x"])
def test_an_unknown_home_folder(path, config, tmp_path, monkeypatch):
    def no_entry(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    options = {"split": "test", "checkpoint": "best", "allow_leak": False}
    run = Workdir(tmp_path / "run")
    run.path.mkdir()
    run.write_config(config.to_dict())
    elsewhere = {"workdirs": [], "split_seed": 0, "cache_dir": None, "command": []}
    for where, use in (
        ("--workdir", lambda: train.fit(config, path, [])),
        ("--workdir", lambda: evaluate.evaluate([path], source=None, out=None, **options)),
        ("--out", lambda: evaluate.evaluate([str(run.path)], source=None, out=path, **options)),
        ("--out", lambda: audit.inspect(config.data.source, out=path, **elsewhere)),
        ("--config.init_from", lambda: initial_weights.load(path, {})),
        ("x", lambda: files.expand(path, "x")),
    ):
        with pytest.raises(ConfigError, match=f"the home folder of {path.partition('/')[0]} is not known") as raised:
            use()
        assert raised.value.where == f"{where}={path}"


def test_a_workdir_that_other_libraries_cannot_name(tmp_path):
    with pytest.raises(ConfigError, match="not UTF-8"), Workdir(tmp_path / os.fsdecode(b"run\xff")):
        pass


class TakesAway:
    """Calls `action` once, before the first batch of a validation is used."""

    def __init__(self, monkeypatch, action):
        until_stopped = processes.until_stopped

        def batches(batches, stop, doing, step=None):
            nonlocal action
            for batch in until_stopped(batches, stop, doing, step):
                if step == 3 and action:
                    action, act = None, action
                    act()
                yield batch

        monkeypatch.setattr(processes, "until_stopped", batches)


@pytest.mark.parametrize("gone", ["cache", "workdir", "checkpoints", "metrics.jsonl"])
def test_files_taken_away_during_a_run(gone, config, tmp_path, monkeypatch):
    config = config.copy_and_resolve_references()
    config.data.cache_dir = str(tmp_path / "cache")
    workdir = tmp_path / "run"
    place = {"cache": tmp_path / "cache", "workdir": workdir}.get(gone, workdir / gone)

    TakesAway(monkeypatch, lambda: place.rename(tmp_path / "taken"))  # at once, whatever is written there meanwhile
    try:
        train.fit(config, str(workdir), [])
        assert gone != "workdir"  # what was saved before can be missing only if a later save makes up for it
        assert (workdir / "results.json").exists()
    except Exception as error:
        user_error = exits.as_user_error(error)
        assert isinstance(user_error, DataError | CheckpointError), error
        assert str(tmp_path) in user_error.where
    if gone == "cache":
        assert (workdir / "checkpoints" / "3").exists()  # saved before it was validated


def test_another_folder_in_place_of_the_workdir(tmp_path):
    with Workdir(tmp_path / "run") as folder:
        folder.check_in_place()
        folder.path.rename(tmp_path / "moved")
        for make in (lambda: None, (tmp_path / "run").mkdir):
            make()
            with pytest.raises(CheckpointError, match="moved or removed"):
                folder.check_in_place()


def test_files_of_the_start_taken_away_during_a_run(config, tmp_path, monkeypatch):
    paths = [tmp_path / "run" / name for name in ("config.json", "run.json", "splits.csv")]
    TakesAway(monkeypatch, lambda: [path.unlink() for path in paths])
    train.fit(config, str(tmp_path / "run"), [])
    assert (tmp_path / "run" / "results.json").exists() and all(path.exists() for path in paths)


@pytest.mark.parametrize("text", FULL_TEXTS)
def test_a_full_disk_is_recognised_in_the_words_of_libraries(text):
    assert is_disk_full(ValueError(text))
    try:
        try:
            raise OSError(errno.ENOSPC, "x", "/cache")
        except OSError as error:
            raise RuntimeError(text) from error
    except RuntimeError as error:
        assert is_disk_full(error) and exits.as_user_error(error).code == 4
    assert not is_disk_full(OSError(errno.EIO, "x")) and not is_disk_full(
        ValueError("RESOURCE_EXHAUSTED: out of memory")
    )


@pytest.mark.parametrize(
    "error, code, text",
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded", "/a"), 4, "the disk is full"),
        (OSError(errno.EFBIG, "File too large"), 4, "ulimit -f"),
        (OSError(errno.EMFILE, "Too many open files"), 2, "ulimit -n"),
        (ValueError("Failed to open directory [os_error_code='24']"), 2, "ulimit -n"),
        (RuntimeError("can't start new thread"), 2, "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 2, "ulimit -u"),
        (MemoryError(), 2, "not enough memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "ulimit -v"),
        (ImportError("libx.so: failed to map segment from shared object"), 2, "ulimit -v"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5 bytes"), 2, "batch_size"),
        (OSError(errno.EIO, "Input/output error", "/data/x"), 4, "/data/x"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 4, "/data/x"),
    ],
)
def test_errors_of_limits_and_of_the_system_in_three_lines(error, code, text):
    user_error = exits.as_user_error(error)
    assert isinstance(user_error, UserError) and user_error.code == code and text in str(user_error)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), OSError("no number"), RuntimeError("x")])
def test_other_errors_keep_their_stack_trace(error):
    assert exits.as_user_error(error) is None
    with pytest.raises(type(error)):
        exits.guard(lambda: (_ for _ in ()).throw(error))


def test_a_file_that_may_not_grow(config, tmp_path):
    prefix = ("bash", "-c", 'ulimit -f 20; exec "$@"', "_")
    arguments = (f"--source={config.data.source}", f"--out={tmp_path}", f"--cache_dir={tmp_path / 'cache'}")
    check(programs.start("audit", *arguments, prefix=prefix), 4, "ulimit -f")


@pytest.mark.parametrize("option", ["-OO", "-O", "-E"])
def test_help_under_options_of_python(option):
    done = programs.start("train", "--help", python=(option,))
    assert done.returncode == 0 and "python -m launch.train" in done.stdout and "--workdir" in done.stdout


@pytest.mark.parametrize("redirect", ["| true", ">&-", "2>&-"])
def test_a_closed_output_leaves_no_trace(redirect, tmp_path):
    command = f'"$@" --help {redirect}; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ("bash", "-c", command, "_", *programs.command("train")), cwd=programs.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == ""


def test_closed_streams_are_not_taken_by_files(tmp_path):
    (tmp_path / "program.py").write_text(
        "from agegender_jax.run.host import interpreter\n"
        "interpreter.settle_streams()\n"
        "number = open('/dev/null').fileno()\n"
        "open('number', 'w').write(str(number))\n"
    )
    command = ("bash", "-c", '"$@" <&- >&- 2>&-', "_", sys.executable, "program.py")
    subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(programs.ROOT)}, check=True)
    assert int((tmp_path / "number").read_text()) > 2
