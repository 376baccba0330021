"""Random flags, arguments and config fields over all commands: a documented exit code, never a stack trace."""

import ast
import collections
import pathlib
import re

import forked
import programs

from agegender_jax import config as config_lib
from agegender_jax import synthetic
from agegender_jax.cli.__main__ import COMMANDS
from tests.faults.registry import Outcome, point

CODES = {0, 2, 3, 4, 5, 75, 130}
ROOT = pathlib.Path(__file__).parents[2]
LAUNCHED = [name for name in COMMANDS if (ROOT / "launch" / f"{name}.py").exists()]
CONFIGS = {"train", "ablate", "baselines"}
LONG_S = 300  # seconds; the machine may be busy
TABLES = 0.05  # share of the runs of launch.models that may print its table, which takes most of a minute
VALUES = (
    *("", "0", "-1", "1", "2.5", "nan", "inf", "-inf", "1e999", "9" * 30, "0x10", "1_000", "True", "false", "None"),
    *("best", "latest", "test", "all", "cpu", "onnx", "a,b", ",", "a=b", "=", "[1, 2]", "{}", "{'a': 1}", "lambda: 0"),
    *("/dev/null", "/etc/passwd", "~nobodyatall/x", "x" * 5000, "a/b/c", "s3://bucket/x", "file:///etc", "null"),
    *("é", "\N{GRINNING FACE}", "\udcff", "line\nbreak", "\x1b[2J", "%s%n", "$(x)", "`x`", "; ls", "--", "-", "'", '"'),
    *("synthetic:0", "synthetic:-5", "synthetic:x", "probs", "float32", "yunet", "\\", "{{x}}"),
)
CONFIG_NAMES = (
    *("ran", "ran:92", "ran:92,paper", "resnet", "resnet:nonsense", "nosuch", "", ":", "ran:", "/etc/passwd"),
    *("configs", "quickstart", "best:x"),
)
ABSL = (
    *("--verbosity=x", "--flagfile=nosuch", "--undefok=x", "--fromenv=x", "--logger_levels=x", "--stderrthreshold=x"),
    *("--log_dir=/nonexistent", "--nodebug=1", "--help=x", "--?", "-v", "--v"),
)


def flag_names(command):
    """Return the names of the flags that the command's module defines."""
    tree = ast.parse((ROOT / "agegender_jax" / "cli" / f"{command}.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    defined = [call.args[0].value for call in calls if ast.unparse(call.func).startswith("flags.DEFINE_")]
    return [name for name in defined if isinstance(name, str)] or ["debug"]


def base(command, folder, rng):
    """Return arguments that a command might work with: without data most of the time, so that few cases compute."""
    source = str(folder / "faces") if rng.random() < 0.06 else "nosuch"
    fields = [f"--config.data.source={source}", f"--config.data.cache_dir={folder / 'cache'}", "--config.num_steps=1"]
    small = ["--config.model.name=levi_hassner", "--config.model.width=0.125", "--config.data.image_size=32"]
    if command in CONFIGS:
        name = "resnet" if rng.random() < 0.7 else rng.choice(CONFIG_NAMES)
        return [f"--config={name}", *fields, *small, "--config.log.figures=False", f"--workdir={folder / 'out'}"]
    if command == "models":
        return [] if rng.random() < TABLES else ["--nosuch"]
    if command == "weights":
        return []
    if command in ("audit", "align"):
        return [f"--source={source}", f"--out={folder / 'out'}", f"--cache_dir={folder / 'cache'}"]
    run = ["--weights=nosuch"] if command == "demo" or rng.random() < 0.3 else [f"--workdir={folder / 'nosuch'}"]
    return [*run, *([] if command in ("demo", "calibrate") else [f"--out={folder / 'out'}"])]


def random_arguments(command, folder, rng):
    """Return `base` with one to three changes."""
    arguments = base(command, folder, rng)
    names, fields = flag_names(command), [name for name, _ in config_lib.flat(config_lib.default())]
    changes = {
        "flag": lambda: f"--{rng.choice(names)}={rng.choice(VALUES)}",
        "flag without a value": lambda: f"--{rng.choice(names)}",
        "no": lambda: f"--no{rng.choice(names)}",
        "typo": lambda: f"--{rng.choice(names)[:-1]}={rng.choice(VALUES)}",
        "single dash": lambda: f"-{rng.choice(names)}={rng.choice(VALUES)}",
        "absl": lambda: rng.choice(ABSL),
        "argument": lambda: rng.choice(VALUES),
        "group": lambda: f"--config.{rng.choice(fields).partition('.')[0]}={rng.choice(VALUES)}",
        "unknown field": lambda: f"--config.{rng.choice(fields)}x={rng.choice(VALUES)}",
    }

    def field():
        return f"--config.{rng.choice(fields)}={rng.choice(VALUES)}"

    for _ in range(rng.choice((1, 1, 2, 3))):
        often = [field] * 9 if command in CONFIGS else []
        arguments.insert(rng.randint(0, len(arguments)), rng.choice([*changes.values(), *often])())
    if arguments and rng.random() < 0.1:
        arguments.pop(rng.randrange(len(arguments)))
    return arguments


def wanted(arguments):
    """Return whether the arguments ask for stack traces, perhaps by the beginning of --debug."""
    return any(re.match("--?d", argument) for argument in arguments)


@point("random flags and fields of all commands: exit codes of the table, no stack trace", push=13, release=1000)
def random_flags(trials, rng, folder):
    """absl's own debugger and profiler flags are left out. A demo is never given nets, so it does not serve."""
    synthetic.write_faces(folder / "faces", 40, seed=0, size=32)
    (folder / "here").mkdir()
    failures, codes = [], collections.Counter()
    environment = programs.environment() | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    for i in range(trials):
        command = LAUNCHED[i % len(LAUNCHED)]
        arguments = random_arguments(command, folder, rng)
        try:
            done = forked.run(programs.command(command, *arguments), folder / "here", environment, LONG_S)
        except Exception as error:
            failures.append(f"trial {i}, {command} {arguments}: {type(error).__name__} {error}"[:300])
            continue
        codes[str(done.returncode)] += 1
        if wanted(arguments) and done.returncode in CODES:
            continue
        trace = "Traceback" in done.stderr + done.stdout
        lines = [line for line in done.stderr.splitlines() if line.startswith(("error: ", "  where: ", "  fix:   "))]
        if done.returncode not in CODES or trace or done.returncode in (2, 3, 4) and len(lines) != 3:
            last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            failures.append(f"trial {i}, {command} {ascii(arguments)}: exit {done.returncode}, {last}"[:700])
    return Outcome(trials, failures, {f"exit_{code}": count for code, count in sorted(codes.items())})
