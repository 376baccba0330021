"""Errors that a user can mend: what went wrong, where, how to fix it, and the exit code."""


class UserError(Exception):
    """A mistake that three short lines explain; launch prints them and exits with `code`.

    Attributes:
      what: what is wrong, one line.
      where: the file, field or flag concerned, one line.
      fix: what to do, one line.
      agreed: whether all processes of the run meet it, so that one tells it and they end together.
    """

    code = 2
    agreed = False

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
    agreed = True  # the sums are the same in every process


class Stopped(Exception):
    """Stopped by a signal after saving; the same command resumes. `code` is 75 or 130."""

    agreed = True

    def __init__(self, code: int, step: int):
        super().__init__(f"stopped at step {step} after saving; the same command resumes")
        self.code, self.step = code, step


class PeerReportedError(Exception):
    """The run ends with `code`; another process tells why."""

    def __init__(self, code: int):
        super().__init__(f"another process tells why the run ends with {code}")
        self.code = code


class LocalError(Exception):
    """Raised from an error that the other processes do not know of: tell it, and leave without waiting for them."""
