"""The flag --config: a config by name or file, its variants, and --config.FIELD for each of its fields."""

import importlib.machinery
import importlib.util
import inspect
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from agegender_jax import configs
from agegender_jax.config import validate
from agegender_jax.errors import ConfigError, UserError


def define_config() -> flags.FlagHolder:
    """Define --config, a file with get_config, and --config.FIELD for each of its fields."""
    text = f"Config: {', '.join(configs.names())} or a file, with variants after a colon."
    # The files of --flagfile would be read here, too; `sys_argv` would hide --config.FIELD when flags are parsed.
    argv, sys.argv = sys.argv, sys.argv[:1]
    try:
        holder = config_flags.DEFINE_config_file("config", None, text)
    finally:
        sys.argv = argv
    flags.FLAGS["config"].parser = ConfigFile()
    return holder


class ConfigFile(flags.ArgumentParser):
    """Parse `NAME[:VARIANTS]` or `FILE[:VARIANTS]`. An error in the file becomes a ConfigError that names it."""

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
        args = [variants] if colon else []
        try:
            inspect.signature(get_config).bind(*args)
        except TypeError as error:
            fix = f"leave out :{variants}" if colon else f"for example --config={name}:VARIANT"
            raise ConfigError(f"variants do not fit get_config: TypeError: {error}", file, fix) from error
        config = _call(file, get_config, *args)
        if not isinstance(config, ConfigDict):
            raise ConfigError(
                f"get_config returns {type(config).__name__}, not ConfigDict", file, "end it with: return config"
            )
        return config.lock()

    def flag_type(self) -> str:
        return "config file"


def config_of(holder: flags.FlagHolder) -> ConfigDict:
    """Return the config flag's value, validated."""
    if holder.value is None:
        raise _missing()
    validate(holder.value)
    return holder.value


def config_name(holder: flags.FlagHolder) -> str:
    """Return `ran` for ran or configs/ran.py, `ran-92-paper` for ran:92,paper."""
    path, _, variants = flags.FLAGS[holder.name].config_filename.partition(":")  # type: ignore[attr-defined]
    stem = path.rpartition("/")[2].removesuffix(".py")
    return "-".join([stem, *filter(None, variants.split(","))])


def _missing() -> ConfigError:
    return ConfigError("--config is missing", "--config", f"for example --config=ran; {_names()}")


def _names() -> str:
    return f"the configs are {', '.join(configs.names())}"


def _module(file: str) -> Any:
    """Return the module in a config file."""
    loader = importlib.machinery.SourceFileLoader("config_file", file)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module  # dataclasses look their module up
    _call(file, loader.exec_module, module)
    return module


def _call(file: str, action: Callable, *arguments) -> Any:
    """Return `action(*arguments)`, which runs code from the config file; its exceptions become ConfigErrors."""
    try:
        return action(*arguments)
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename == file:
            what, where = f"the config file cannot be read: {error.strerror}", file
            fix = _names()
        else:
            what = f"the config file fails: {type(error).__name__}: {one_line(error)}".removesuffix(": ")
            where, fix = _line_of(file, error), "correct that line; --debug shows the stack trace"
        raise ConfigError(what, where, fix) from error


def _line_of(file: str, error: Exception) -> str:
    """Return `file` and, if known, the line that raised."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f"{error.filename}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f"{file}, line {lines[-1]}" if lines else file


def one_line(error: Exception) -> str:
    """Return an error's text, shortened to one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return textwrap.shorten(text, 200, placeholder=" …")
