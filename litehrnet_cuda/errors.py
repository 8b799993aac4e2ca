"""The one exception that means "your input, not our code", and the check that everything needs."""

from __future__ import annotations

import operator
from typing import Any


class InputError(ValueError):
    """Input that cannot be used; the message says what was expected, what came, and how to mend it.

    The command line prints the message as one sentence and exits with status 2.
    """


def whole_number(name: str, value: Any, least: int) -> int:
    """A number of things, as an ``int``.

    Args:
        name: of the argument, for messages.
        value: of any type of whole numbers, such as numpy's.
        least: of it.

    Raises:
        InputError: for what is no whole number, truth values included, or is less.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise InputError(f"{name}: expected a whole number from {least} up, got {value!r:.60}")
    number = operator.index(value)
    if number < least:
        raise InputError(f"{name}: expected at least {least}, got {number}")
    return number
