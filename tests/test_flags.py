"""Help, and the messages about flags, config fields and config files."""

import resource
import sys
import types

import programs
import pytest
from absl import flags
from programs import check

from agegender_jax.cli import __main__ as command_line
from agegender_jax.cli import app, exits
from agegender_jax.errors import ConfigError


@pytest.mark.parametrize(
    "name, flag",
    [
        ("train", "workdir"),
        ("evaluate", "workdir"),
        ("explain", "head"),
        ("ablate", "vary"),
        ("audit", "source"),
        ("benchmark", "what"),
    ],
)
def test_help_is_quick_and_needs_no_jax(name, flag):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = programs.start(name, "--help", python=("-X", "importtime"))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and f"--{flag}" in done.stdout
    assert f"python -m launch.{name} " in done.stdout or f"agegender {name} " in done.stdout
    assert (
        after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
    )  # not on the clock of a busy machine
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "absl.flags" in imported and not imported & {"jax", "flax", "tensorflow_datasets", "matplotlib"}


@pytest.mark.parametrize("flag", ["--?", "-?", "-h", "--helpfull", "--help=true", "--helpxml"])
def test_every_form_of_help(flag):
    done = programs.run("models", flag)
    assert done.returncode == 0 and "Flags:" in done.stdout


BAD_ARGUMENTS = [
    ([], ["--config is missing"]),
    (["--config="], ["--config is missing"]),
    (
        ["--config=configs/rann.py"],
        ["  where: configs/rann.py\n", "cannot be read: No such file", "the configs are "],
    ),
    (["--config=rann"], ["no config is named 'rann'", "quickstart, ran, "]),
    (["--config=configs/r\nan\x1b.py"], ["  where: configs/r\\nan\\x1b.py\n"]),
    (["--config=configs/ran.py:nix"], ["unknown variant 'nix'", "92, paper"]),
    (
        ["--config=configs/ran.py", "--config.optimizer.lrr=1"],
        ["field optimizer.lrr\n", "did you mean optimizer.lr?"],
    ),
    (["--config=configs/ran.py", "--config.lr=1"], ["field lr\n", "did you mean optimizer.lr?"]),
    (["--config=configs/ran.py", "--config.optimiser.lr=1"], ["optimiser.lr\n", "did you mean optimizer.lr?"]),
    (["--config=configs/ran.py", "--config.optimiser.name=x"], ["did you mean optimizer.name?"]),
    (["--config=configs/ran.py", "--config.dat.source=x"], ["field dat.source\n", "did you mean data.source?"]),
    (["--config=configs/ran.py", "--config.optimiser=x"], ["field optimiser\n", "did you mean optimizer?"]),
    (["--config=configs/ran.py", "--config.seed.x=1"], ["field seed.x\n", "did you mean seed?"]),
    (["--config=configs/ran.py", "--config.xyzzy=1"], ["field xyzzy\n", "see --help for all fields"]),
    (["--config=configs/ran.py", "--config.optimizer.lr=much"], ["--config.optimizer.lr=much"]),
    (["--config=configs/ran.py", "--config.optimizer.lr=-1"], ["optimizer.lr must be above 0"]),
    (["--config=configs/ran.py", "--config.model.name=ran57"], ["ran57", "did you mean ran56?"]),
    (
        ["--config=configs/resnet.py", "--config.model.learning=naive"],
        ["resnet18 has no learning to choose\n", "  where: --config.model\n"],
    ),
    (["--config=configs/ran.py", "--config.batch_size=0"], ["batch_size must be at least 1"]),
    (["--config=configs/ran.py", "--config.data.image_size=31"], ["image_size must be between 32"]),
    (["--config=configs/ran.py", "--wrokdir=x"], ["unknown flag --wrokdir", "did you mean workdir?"]),
    (["--config=configs/ran.py", "left", "over"], ["unexpected argument 'left'"]),
    (["--config=configs/ran.py", "--flagfile=nosuch"], ["Unable to open flagfile", "see --help"]),
]


@pytest.mark.parametrize("arguments, texts", BAD_ARGUMENTS)
def test_bad_flags_and_fields(arguments, texts):
    check(programs.run("train", *arguments), 2, *texts)


BAD_FILES = [
    ("x = 1", "the config file has no function get_config", "", "define get_config()"),
    ("def get_config():\n    pass", "get_config returns NoneType, not ConfigDict", "", "return config"),
    (
        "def get_config():\n    raise ValueError('one\\ntwo')",
        "fails: ValueError: one two",
        ", line 2",
        "correct that line",
    ),
    (
        "import nowhere_at_all",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
        ", line 1",
        "correct that line",
    ),
    ("x = 1\ndef get_config(:\n", "fails: SyntaxError: invalid syntax", ", line 2", "correct that line"),
]


@pytest.mark.parametrize("text, what, line, fix", BAD_FILES)
def test_bad_config_files(text, what, line, fix, tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text(text)
    check(programs.run("train", f"--config={path}"), 2, f"{what}\n", f"  where: {path}{line}\n", fix)


def test_variant_of_a_config_file_without_variants(tmp_path):
    path = tmp_path / "plain.py"
    path.write_text("from agegender_jax import config\n\ndef get_config():\n    return config.default()\n")
    done = programs.run("train", f"--config={path}:92")
    check(done, 2, "variants do not fit get_config: TypeError", f"  where: {path}\n", "leave out :92")


def test_ctrl_c_has_the_same_message_in_every_program(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as raised:
        exits.guard(interrupted)
    assert raised.value.code == 130
    assert capsys.readouterr().err == "stopped by Ctrl-C; the same command starts again\n"


def test_ctrl_c_while_a_command_is_imported(monkeypatch, capsys):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "importlib", types.SimpleNamespace(import_module=interrupted))
    monkeypatch.setattr("sys.argv", ["agegender", "predict", "a.jpg"])
    with pytest.raises(SystemExit) as raised:
        command_line.main()
    assert raised.value.code == 130 and capsys.readouterr().err.startswith("stopped by Ctrl-C")


def test_a_number_that_is_none_is_refused(monkeypatch):
    values = flags.FlagValues()
    flags.DEFINE_float("score", 0.7, "", 0.01, 1.0, flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(ConfigError, match="flag --score=nan: not a number"):
        app._parse(["program", "--score=nan"])


@pytest.mark.parametrize(
    "arguments, shows", [(["--debug=True"], True), (["-debug=1"], True), (["--nodebug"], False), ([], False)]
)
def test_debug_is_read_as_absl_reads_it(monkeypatch, capsys, arguments, shows):
    values = flags.FlagValues()
    flags.DEFINE_bool("debug", False, "", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    monkeypatch.setattr(sys, "argv", ["program", *arguments])

    def fail():
        raise ConfigError("what", "where", "fix")

    for parsed in (False, True):  # a flag that cannot be parsed is an error, too
        if parsed:
            values(sys.argv)
        with pytest.raises(SystemExit):
            exits.guard(fail)
        assert ("Traceback" in capsys.readouterr().err) == shows


def test_debug_shows_the_stack_trace():
    done = programs.run("train", "--config=configs/rann.py", "--debug")
    assert done.returncode == 2 and "Traceback" in done.stderr and done.stderr.splitlines()[-1].startswith("  fix:")
