"""Flags in, exit code out: what every program here shares. Imports nothing heavy, so that --help is quick."""

import difflib
import errno
import functools
import re
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import config_flags

from agegender_jax.config import ConfigDict, default, fields_help, flat, nearest, validate
from agegender_jax.errors import CheckpointError, ConfigError, Stopped, UserError

DEBUG = flags.DEFINE_bool("debug", False, "Show the stack trace of an error.")
HELP = {"--help", "-help", "-h", "--helpshort", "--helpfull", "-helpfull"}


def define_config() -> flags.FlagHolder:
    """--config, a file with get_config, and --config.FIELD for each of its fields."""
    return config_flags.DEFINE_config_file("config", None, "Config file, with variants after a colon.")


def run(main: Callable[[], None], help_text: str) -> None:
    """Parses the flags and calls `main`. A user's mistake becomes three lines and its exit code."""
    if HELP & set(sys.argv[1:]):
        print(f"{help_text.strip()}\n\nFlags:\n{flags.FLAGS.module_help(sys.modules['__main__'])}\n")
        if "config" in flags.FLAGS:
            print(fields_help())
        sys.exit(0)
    app.run(lambda _: _guard(functools.partial(_quietly, main)), flags_parser=lambda argv: _guard(lambda: _parse(argv)))


def config_of(holder: flags.FlagHolder) -> ConfigDict:
    """The config flag's value, validated."""
    if holder.value is None:
        raise ConfigError("--config is missing", "--config", "for example --config=configs/ran.py")
    validate(holder.value)
    return holder.value


def config_name(holder: flags.FlagHolder) -> str:
    """`ran` for configs/ran.py, `ran-92-paper` for configs/ran.py:92,paper."""
    path, _, variants = flags.FLAGS[holder.name].config_filename.partition(":")
    stem = path.rpartition("/")[2].removesuffix(".py")
    return "-".join([stem, *filter(None, variants.split(","))])


def _parse(argv: list[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            list(flags.FLAGS.config.items())  # a file that could not be loaded raises here
    except flags.UnrecognizedFlagError as error:
        raise ConfigError(f"unknown flag --{error.flagname}", "command line", _near_flag(error.flagname)) from error
    except UserError:
        raise
    except (AttributeError, KeyError) as error:  # a field that the config does not have
        raise ConfigError(
            f"unknown config field {_unknown_field(error)}", "command line", _near_field(error)
        ) from error
    except Exception as error:  # a config file may raise anything
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        fix = (
            "the config files are configs/ran.py, resnet.py and quickstart.py"
            if isinstance(error, OSError)
            else "see --help"
        )
        raise ConfigError(lines[-1], "command line", fix) from error
    if len(rest) > 1:
        raise ConfigError(f"unexpected argument {rest[1]!r}", "command line", "flags are --name=value, without spaces")
    return rest


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
    except KeyboardInterrupt:
        print("stopped before training began; the same command starts again", file=sys.stderr)
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
    text = "\n".join((f"error: {error.what}", f"  where: {error.where}", f"  fix:   {error.fix}"))
    print(text.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)
    sys.exit(code)


def _near_flag(name: str) -> str:
    return nearest(name, [flag.name for flag in flags.FLAGS.get_flags_for_module("__main__")])


def _unknown_field(error: Exception) -> str:
    """The name in ml_collections' messages: `'lrr' Did you mean…` or `Attribute … looked up: seed.x`."""
    quoted = re.search(r"[\w.]+", str(error).rpartition("lookup:")[2])
    return quoted.group() if quoted else str(error)


def _near_field(error: Exception) -> str:
    names = [name for name, _ in flat(default())]
    wanted = _unknown_field(error)
    by_last = {name.rpartition(".")[2]: name for name in names}
    close = difflib.get_close_matches(wanted.rpartition(".")[2], by_last, 1)
    return f"did you mean {by_last[close[0]]}?" if close else "see --help for all fields"
