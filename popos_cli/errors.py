"""The two kinds of failure that a user is told about; everything else is a bug of ours."""


class PoposError(Exception):
    """What went wrong and where; `hint` says what to do next. The command line exits with 1."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PoposError):
    """A wrong flag, value or name, found before any work. The command line exits with 2."""

    exit_code = 2
