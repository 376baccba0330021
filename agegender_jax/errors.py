"""Errors that a user can mend: what went wrong, where, how to fix it, and the exit code."""


class UserError(Exception):
    """A mistake that three short lines explain; launch prints them and exits with `code`.

    Attributes:
      what: what is wrong, one line.
      where: the file, field or flag concerned, one line.
      fix: what to do, one line.
    """

    code = 2

    def __init__(self, what: str, where: str, fix: str):
        super().__init__(f"{what}\n  where: {where}\n  fix:   {fix}")
        self.what, self.where, self.fix = what, where, fix


class ConfigError(UserError):
    """Bad flag, config field or value, or a workdir that cannot be used."""

    code = 2


class DataError(UserError):
    """Source missing, empty, unreadable, changed, too bad, too small, or leaking."""

    code = 3


class CheckpointError(UserError):
    """No usable checkpoint, one of another model, or no room to save."""

    code = 4


class NotFiniteError(UserError):
    """The loss is not finite."""

    code = 5


class Stopped(Exception):
    """Stopped by a signal after saving; the same command resumes. `code` is 75 or 130."""

    def __init__(self, code: int, step: int):
        super().__init__(f"stopped at step {step} after saving; the same command resumes")
        self.code, self.step = code, step
