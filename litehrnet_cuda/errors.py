"""The one exception that means "your input, not our code"."""


class InputError(ValueError):
    """Input that cannot be used; the message says what was expected, what came, and how to mend it.

    The command line prints the message as one sentence and exits with status 2.
    """
