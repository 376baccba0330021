"""Run a command: parse its flags, set jax up, report errors. Imports nothing heavy, so that --help is quick."""

import ast
import functools
import inspect
import math
import os
import re
import sys
from collections.abc import Callable
from types import ModuleType

from absl import app, flags, logging

from agegender_jax import extras
from agegender_jax.cli.config_flag import ConfigFile, config_name, config_of, define_config, one_line
from agegender_jax.cli.exits import guard
from agegender_jax.config import default, fields_help, flat, validate
from agegender_jax.errors import ConfigError, UserError
from agegender_jax.run.host import interpreter, large_pages, ynnpack
from agegender_jax.run.host.signals import stop_flag
from agegender_jax.suggestions import nearest, nearest_field

__all__ = [
    "ConfigFile",
    "check_checkpoint",
    "config_name",
    "config_of",
    "define_config",
    "import_jax",
    "prepare_jax",
    "run",
]

DEBUG = flags.DEFINE_bool("debug", False, "Show the stack trace of an error.")
HELP = re.compile(r"--?(\?|h|help|helpshort|helpfull|helpxml)(=(true|t|1))?", re.IGNORECASE)  # absl exits 1 after them
_command: ModuleType | None = None  # what `run` was called with


def run(command: ModuleType) -> None:
    """Parse the flags and call the command's `main`. A user error becomes three lines and its exit code.

    Args:
      command: a module with flags, a docstring for --help, and `main()`. If it sets `COMPUTES = False`, it does not
        compute with large arrays. If it sets `EXTRA`, it needs that extra of the package. If it sets `TAKES_ARGUMENTS =
        True`, `main` is called with the list of positional arguments; otherwise such an argument is an error.
    """
    global _command
    _command = command
    interpreter.settle_streams()
    takes_arguments = getattr(command, "TAKES_ARGUMENTS", False)
    if any(map(HELP.fullmatch, sys.argv[1:])):
        guard(functools.partial(_print_help, command))
        sys.exit(0)
    if takes_arguments:
        flags.FLAGS.set_gnu_getopt()

    def call(argv: list[str]) -> None:
        main = functools.partial(command.main, argv[1:]) if takes_arguments else command.main
        guard(functools.partial(_start, command, main))

    app.run(call, flags_parser=lambda argv: guard(functools.partial(_parse, argv, takes_arguments)))


def prepare_jax(compilation_cache: bool = True, computes: bool = True) -> None:
    """Import jax, check that it has a device, and turn its compilation cache on.

    Args:
      compilation_cache: False leaves the cache to jax's own settings.
      computes: False if other processes compute, so that this one leaves the accelerators to them.

    Raises:
      ConfigError: there is no device, or see `import_jax`.
    """
    import_jax()
    from agegender_jax.run.host import compile_cache, devices

    if not computes:
        devices.leave_accelerators()
    devices.check()
    if compilation_cache:
        compile_cache.turn_on()


def import_jax() -> None:
    """Import jax; raise ConfigError if it refuses a setting of the environment.

    Its cache of compiled programs is compressed by zlib even if zstandard is installed: zlib's checksum detects a
    damaged program, which would otherwise end the process.
    """
    try:
        with interpreter.without_modules("zstandard", "compression.zstd"):
            import jax  # noqa: F401
    except (ValueError, TypeError) as error:  # jax checks its variables when it is imported
        names = [name for name in sorted(os.environ) if name.startswith("JAX_")]
        raise ConfigError(
            f"jax refuses a setting: {one_line(error)}", ", ".join(names) or "jax", "correct or unset that variable"
        ) from error


def check_checkpoint(holder: flags.FlagHolder) -> None:
    """Raise ConfigError unless the flag's value is best, latest or a step's number."""
    which = holder.value
    if which not in ("best", "latest") and not which.isdecimal():
        raise ConfigError(f"unknown checkpoint {which!r}", "--checkpoint", "use best, latest or a step's number")


def _print_help(command: ModuleType) -> None:
    doc = command.__doc__ or ast.get_docstring(ast.parse(inspect.getsource(command))) or ""  # absent under -OO
    print(f"{doc.strip()}\n\nFlags:\n{flags.FLAGS.module_help(command)}\n")
    if "config" in flags.FLAGS:
        print(fields_help())
    if sys.stdout is not None:
        sys.stdout.flush()


def _start(command: ModuleType, main: Callable[[], None]) -> None:
    """Call `main` with large pages and signal handlers, and without settings meant for other programs."""
    if extra := getattr(command, "EXTRA", None):
        extras.check(extra)
    if getattr(command, "COMPUTES", True):
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            validate(flags.FLAGS["config"].value)  # mistakes are reported before a restart
        ynnpack.avoid()
        if hint := large_pages.use_large():
            print(hint, flush=True)
    if not any(argument.lstrip("-").startswith(("verbosity", "v=")) for argument in sys.argv):
        logging.set_verbosity(logging.WARNING)
        logging.get_absl_logger().setLevel("CRITICAL")  # Orbax and TFDS log much, and errors that are reported anyway
    owns_process = interpreter.owns_process()
    if owns_process:
        interpreter.settle_environment()
    with stop_flag(owns_process):
        main()


def _parse(argv: list[str], takes_arguments: bool = False) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(f"unknown flag --{error.flagname}", "command line", _near_flag(error.flagname)) from error
    except UserError:
        raise
    except (AttributeError, KeyError) as error:  # a field that the config does not have
        name = _unknown_field(argv) or one_line(error)
        raise ConfigError(f"unknown config field {name}", "command line", nearest_field(name, _fields())) from error
    except Exception as error:  # ml_collections and absl raise many kinds
        raise ConfigError(one_line(error) or type(error).__name__, "command line", "see --help") from error
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        if isinstance(value, float) and math.isnan(value) and not name.startswith("config."):  # passes absl's bounds
            raise ConfigError(f"flag --{name}=nan: not a number", "command line", "see --help")
    if len(rest) > 1 and not takes_arguments:
        raise ConfigError(f"unexpected argument {rest[1]!r}", "command line", "flags are --name=value, without spaces")
    return rest


def _near_flag(name: str) -> str:
    module = _command if _command is not None else "__main__"
    known = [flag.name for flag in flags.FLAGS.get_flags_for_module(module)]
    return nearest(name, known) if known else "the only flags are --help and --debug"


def _fields() -> list[str]:
    """Return the dotted names of all fields and groups of fields."""
    names = [name for name, _ in flat(default())]
    return names + sorted({name.rpartition(".")[0] for name in names} - {""})


def _unknown_field(argv: list[str]) -> str:
    """Return the first NAME of a --config.NAME that is not a field, or an empty string."""
    matches = (re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv)
    return next((match[1] for match in matches if match and match[1] not in _fields()), "")
