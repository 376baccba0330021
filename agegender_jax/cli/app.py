"""Flags in, exit code out: what every program here shares. Imports nothing heavy, so that --help is quick."""

import errno
import functools
import importlib.machinery
import importlib.util
import inspect
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from agegender_jax import configs, extras
from agegender_jax.config import ConfigDict, default, fields_help, flat, nearest, nearest_field, validate
from agegender_jax.errors import CheckpointError, ConfigError, LocalError, PeerReportedError, Stopped, UserError
from agegender_jax.run.host import interpreter, large_pages
from agegender_jax.run.host.signals import stop_flag

DEBUG = flags.DEFINE_bool("debug", False, "Show the stack trace of an error.")
_COMMAND: ModuleType | None = None  # what `run` was called with
HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull"}


def define_config() -> flags.FlagHolder:
    """--config, a file with get_config, and --config.FIELD for each of its fields."""
    text = f"Config: {', '.join(configs.names())} or a file, with variants after a colon."
    holder = config_flags.DEFINE_config_file("config", None, text)
    flags.FLAGS["config"].parser = ConfigFile()
    return holder


class ConfigFile(flags.ArgumentParser):
    """Reads `NAME[:VARIANTS]` or `FILE[:VARIANTS]`. Whatever is wrong with it becomes a ConfigError that names it."""

    def parse(self, argument: str) -> ConfigDict:
        name, colon, variants = argument.partition(":")
        if not name:
            raise _missing()
        if name.isidentifier() and name not in configs.names() and not os.path.exists(name):
            raise ConfigError(f"no config is named {name!r}", "--config", _names())
        file = configs.file(name)
        get_config = getattr(_module(file), "get_config", None)
        if not callable(get_config):
            raise ConfigError(
                "the config file has no function get_config", file, "define get_config(), as configs/ran.py does"
            )
        given = [variants] if colon else []
        try:
            inspect.signature(get_config).bind(*given)
        except TypeError as error:
            fix = f"leave out :{variants}" if colon else f"for example --config={name}:VARIANT"
            raise ConfigError(f"variants do not fit get_config: TypeError: {error}", file, fix) from error
        config = _blaming(file, get_config, *given)
        if not isinstance(config, ConfigDict):
            raise ConfigError(
                f"get_config gives {type(config).__name__}, not ConfigDict", file, "end it with: return config"
            )
        return config.lock()

    def flag_type(self) -> str:
        return "config file"


def run(command: ModuleType) -> None:
    """Parse the flags and call the command's `main`. A user error becomes three lines and its exit code.

    Args:
      command: a module with flags, a docstring for --help, and `main()`. Where it sets `COMPUTES = False`, it works
        on no large arrays. Where it sets `EXTRA`, it needs that extra of the package. Where it sets
        `TAKES_ARGUMENTS = True`, `main` is called with the list of arguments that are no flags; elsewhere such an
        argument is an error.
    """
    global _COMMAND
    _COMMAND = command
    takes_arguments = getattr(command, "TAKES_ARGUMENTS", False)
    if HELP & set(sys.argv[1:]):
        print(f"{(command.__doc__ or '').strip()}\n\nFlags:\n{flags.FLAGS.module_help(command)}\n")
        if "config" in flags.FLAGS:
            print(fields_help())
        sys.exit(0)
    if takes_arguments:
        flags.FLAGS.set_gnu_getopt()

    def call(argv: list[str]) -> None:
        _guard(lambda: _start(command, functools.partial(command.main, argv[1:]) if takes_arguments else command.main))

    app.run(call, flags_parser=lambda argv: _guard(lambda: _parse(argv, takes_arguments)))


def config_of(holder: flags.FlagHolder) -> ConfigDict:
    """The config flag's value, validated."""
    if holder.value is None:
        raise _missing()
    validate(holder.value)
    return holder.value


def config_name(holder: flags.FlagHolder) -> str:
    """Return `ran` for ran or configs/ran.py, `ran-92-paper` for ran:92,paper."""
    path, _, variants = flags.FLAGS[holder.name].config_filename.partition(":")
    stem = path.rpartition("/")[2].removesuffix(".py")
    return "-".join([stem, *filter(None, variants.split(","))])


def check_checkpoint(holder: flags.FlagHolder) -> None:
    """Raises ConfigError unless the flag's value is best, latest or a step's number."""
    which = holder.value
    if which not in ("best", "latest") and not which.isdecimal():
        raise ConfigError(f"unknown checkpoint {which!r}", "--checkpoint", "use best, latest or a step's number")


def _missing() -> ConfigError:
    return ConfigError("--config is missing", "--config", f"for example --config=ran; {_names()}")


def _names() -> str:
    return f"the configs are {', '.join(configs.names())}"


def _module(file: str) -> Any:
    """The module in a config file."""
    loader = importlib.machinery.SourceFileLoader("config_file", file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # dataclasses look their module up
    _blaming(file, loader.exec_module, module)
    return module


def _blaming(file: str, action: Callable, *arguments) -> Any:
    """`action(*arguments)`, which runs code of the config file; its exceptions become ConfigErrors."""
    try:
        return action(*arguments)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename == file:
            what, where = f"the config file cannot be read: {error.strerror}", file
            fix = _names()
        else:
            what = f"the config file fails: {type(error).__name__}: {_one_line(error)}".removesuffix(": ")
            where, fix = _line_of(file, error), "mend that line; --debug shows the stack trace"
        raise ConfigError(what, where, fix) from error


def _line_of(file: str, error: Exception) -> str:
    """`file` and, where known, the line of it that raised."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {lines[-1]}" if lines else file


def _one_line(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return textwrap.shorten(text, 200, placeholder=" …")


def _parse(argv: list[str], takes_arguments: bool = False) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(f"unknown flag --{error.flagname}", "command line", _near_flag(error.flagname)) from error
    except UserError:
        raise
    except (AttributeError, KeyError) as error:  # a field that the config does not have
        name = _unknown_field(argv) or _one_line(error)
        raise ConfigError(f"unknown config field {name}", "command line", nearest_field(name, _fields())) from error
    except Exception as error:  # ml_collections and absl raise many kinds
        raise ConfigError(_one_line(error) or type(error).__name__, "command line", "see --help") from error
    if len(rest) > 1 and not takes_arguments:
        raise ConfigError(f"unexpected argument {rest[1]!r}", "command line", "flags are --name=value, without spaces")
    return rest


def _start(command: ModuleType, main: Callable[[], None]) -> None:
    """Call `main` in the process that a user expects, with signals handled."""
    if extra := getattr(command, "EXTRA", None):
        extras.check(extra)
    if getattr(command, "COMPUTES", True):
        if "config" in flags.FLAGS and flags.FLAGS["config"].value is not None:
            validate(flags.FLAGS["config"].value)  # a restart comes after the mistakes
        if hint := large_pages.use_large():
            print(hint, flush=True)
    with stop_flag(owns_process=interpreter.owns_process()):
        _quietly(main)


def _quietly(main: Callable[[], None]) -> None:
    if not any(argument.lstrip("-").startswith(("verbosity", "v=")) for argument in sys.argv):
        logging.set_verbosity(logging.WARNING)  # Orbax tells much
    main()


def _guard(action: Callable):
    try:
        return action()
    except UserError as error:
        _leave(error, error.code)
    except Stopped as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except PeerReportedError as error:
        sys.exit(error.code)
    except LocalError as error:
        _leave_alone(error.__cause__)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        full = CheckpointError(
            "the disk is full", str(error.filename or "output"), "free some space; the same command resumes"
        )
        full.__cause__ = error
        _leave(full, full.code)


def _leave(error: UserError, code: int) -> None:
    if any(argument in ("--debug", "-debug", "--debug=true") for argument in sys.argv):
        traceback.print_exception(error)
    for line in (f"error: {error.what}", f"  where: {error.where}", f"  fix:   {error.fix}"):
        print(_printable(line), file=sys.stderr)
    sys.exit(code)


def _leave_alone(cause: BaseException) -> None:
    """Tells of an error, then ends the process at once: jax's own end would wait for the others, which wait for it."""

    def action():
        raise cause

    code = 1
    try:
        _guard(action)
    except SystemExit as left:
        code = left.code
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _printable(text: str) -> str:
    """Control characters and undecodable bytes, of file names for example, escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _near_flag(name: str) -> str:
    module = _COMMAND if _COMMAND is not None else "__main__"
    known = [flag.name for flag in flags.FLAGS.get_flags_for_module(module)]
    return nearest(name, known) if known else "there are no flags but --help and --debug"


def _fields() -> list[str]:
    """The dotted names of all fields, and of the groups that they stand in."""
    names = [name for name, _ in flat(default())]
    return names + sorted({name.rpartition(".")[0] for name in names} - {""})


def _unknown_field(argv: list[str]) -> str:
    """The first NAME of a --config.NAME that no field has, or nothing."""
    given = (re.match(r"--?(?:no)?config\.([^=]+)", argument) for argument in argv)
    return next((found[1] for found in given if found and found[1] not in _fields()), "")
