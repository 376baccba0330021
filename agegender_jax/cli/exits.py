"""Report an exception as three lines on stderr and an exit code."""

import errno
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import flags

from agegender_jax.errors import (
    CheckpointError,
    ConfigError,
    LocalError,
    PeerReportedError,
    Stopped,
    UserError,
    is_disk_full,
    system_error,
)

DEBUG = {f"{dashes}debug{value}" for dashes in ("-", "--") for value in ("", "=true", "=t", "=1")}


def guard(action: Callable[[], Any]) -> Any:
    """Return `action()`. A user error becomes three lines and SystemExit."""
    try:
        return action()
    except Stopped as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)
    except PeerReportedError as error:
        sys.exit(error.code)
    except LocalError as error:
        _exit_alone(error.__cause__)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command starts again", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # `| head`
        _discard_stdout()
        sys.exit(0)
    except Exception as error:
        user_error = as_user_error(error)
        if user_error is None:
            raise
        if user_error is not error:
            user_error.__cause__ = error
        _report(user_error)
        sys.exit(user_error.code)


def as_user_error(error: Exception) -> UserError | None:
    """Return the UserError that an error is or that describes it; None for other errors, which get a stack trace."""
    if isinstance(error, UserError):
        return error
    if is_disk_full(error):
        path = getattr(error, "filename", None) or "output"
        return CheckpointError("the disk is full", str(path), "free some space; the same command resumes")
    return _limit(error) or _system(error)


def _limit(error: Exception) -> UserError | None:
    """Return the UserError for a limit of the process or the device that was reached."""
    number, text = system_error(error), str(error)
    if number in (errno.EMFILE, errno.ENFILE):
        return ConfigError("too many files are open", "limits of the process", "raise the limit: ulimit -n 4096")
    if number == errno.EAGAIN or "can't start new thread" in text or "thread creation failed" in text.lower():
        return ConfigError(
            "no more threads or processes can be started", "limits of the process", "raise the limit: ulimit -u 4096"
        )
    if number == errno.EFBIG:
        return CheckpointError(
            "a file would be larger than the process may write", "limits of the process", "raise the limit: ulimit -f"
        )
    unmapped = "failed to map segment" in text or "RESOURCE_EXHAUSTED" in text
    if number == errno.ENOMEM or isinstance(error, MemoryError) or unmapped:
        return ConfigError(
            "there is not enough memory",
            "memory of the machine, the process or the device",
            "lower --batch_size, or the batch_size, eval.batch_size or data.image_size of --config; see ulimit -v",
        )
    return None


def _system(error: Exception) -> UserError | None:
    """Return the UserError for an error of the operating system, for example a file that vanished."""
    if not isinstance(error, OSError) or not error.errno:
        return None
    return CheckpointError(
        f"a file cannot be used: {error.strerror}",
        str(error.filename or "a file of the program"),
        "check that it exists and can be read and written; the same command resumes; --debug shows the stack trace",
    )


def _report(error: UserError) -> None:
    if _is_debug():
        traceback.print_exception(error)
    for line in (f"error: {error.what}", f"  where: {error.where}", f"  fix:   {error.fix}"):
        print(_printable(line), file=sys.stderr)


def _is_debug() -> bool:
    """Return the flag --debug, even if the flags could not be parsed."""
    if flags.FLAGS.is_parsed():
        return "debug" in flags.FLAGS and bool(flags.FLAGS["debug"].value)
    return any(argument.lower() in DEBUG for argument in sys.argv)


def _exit_alone(cause: BaseException) -> None:
    """Report an error and end the process at once; jax's own shutdown would wait for the other processes."""

    def action():
        raise cause

    code = 1
    try:
        guard(action)
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        traceback.print_exc()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(code)


def _printable(text: str) -> str:
    """Escape control characters and undecodable bytes, for example in file names."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _discard_stdout() -> None:
    """Redirect stdout to /dev/null, so that the interpreter's last flush does not fail, either."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
