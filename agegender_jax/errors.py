"""User-facing errors: message, location, suggested fix, exit code."""

import errno
import os
import re

IN_TEXT = re.compile(r"os_error_code='(\d+)'|\[OS error (\d+):")  # as tensorstore writes them
NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENOMEM)  # those that are known by their texts


class UserError(Exception):
    """An error explained in three short lines, which the programs print before they exit with `code`.

    Attributes:
      what: what is wrong, one line.
      where: the file, field or flag concerned, one line.
      fix: what to do, one line.
      agreed: whether all processes of the run know of it, so that one of them reports it and they end together.
    """

    code = 2
    agreed = False

    def __init__(self, what: str, where: str, fix: str):
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what, self.where, self.fix = what, where, fix


class ConfigError(UserError):
    """A flag, config field or value is wrong, or a workdir cannot be used."""

    code = 2


class DataError(UserError):
    """A source is missing, empty, unreadable, changed, too small or leaking, or has too many unusable files."""

    code = 3


class CheckpointError(UserError):
    """No checkpoint is usable, one belongs to another model, or there is no space to save one."""

    code = 4


class NotFiniteError(UserError):
    """The loss or a weight is not finite.

    Args:
      step: the first step whose loss or gradient was not finite; None if there was none.
    """

    code = 5
    agreed = True  # the sums are the same in every process

    def __init__(self, what: str, where: str, fix: str, step: int | None = None):
        super().__init__(what, where, fix)
        self.step = step


class Stopped(Exception):
    """Stopped by a signal with everything saved; the same command resumes.

    Args:
      code: 75 (SIGTERM, SIGHUP) or 130 (Ctrl-C).
      step: the training step that was saved; None outside the training loop.
      doing: what was stopped, if there is no step.
    """

    agreed = True

    def __init__(self, code: int, step: int | None = None, doing: str = ""):
        where = f"at step {step} after saving" if step is not None else f"while {doing}"
        super().__init__(f"stopped {where}; the same command resumes")
        self.code, self.step, self.doing = code, step, doing


class PeerReportedError(Exception):
    """Another process reports the cause; exit with `code`."""

    def __init__(self, code: int):
        super().__init__(f"another process reports why the run ends with {code}")
        self.code = code


class LocalError(Exception):
    """An error in this process only, chained to its cause. Report it and exit without a barrier."""


def system_error(error: BaseException | None) -> int | None:
    """Return the errno of the operating-system error that an error is, was raised from, or names in its text.

    Libraries wrap such errors, some only as text.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = getattr(error, "errno", None)
        if isinstance(error, OSError) and number:
            return number
        if match := IN_TEXT.search(str(error)):
            return int(match[1] or match[2])
        if number := next((number for number in NUMBERS if os.strerror(number) in str(error)), None):
            return number
        error = error.__cause__ or error.__context__
    return None


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether an error, or one that it was raised from, means that a disk or a quota is full."""
    return system_error(error) in (errno.ENOSPC, errno.EDQUOT)
