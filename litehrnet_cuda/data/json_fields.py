"""Fields of JSON files, checked as they are read: a mistake becomes one sentence that says where it is."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from litehrnet_cuda.errors import InputError


class DataError(InputError):
    """A mistake in a data set.

    Args:
        message: names the file, the place in it, what was expected and what came.
        kind: what mistakes of this kind have in common, such as ``"the box is empty"``; reports are grouped by it.
    """

    def __init__(self, message: str, kind: str = "other mistakes") -> None:
        super().__init__(message)
        self.kind = kind


def read_json(path: Path) -> Any:
    """The content of a JSON file; :class:`DataError` if it is absent or not JSON, with line and column."""
    kind = "the file cannot be read"
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: expected an annotation file, but there is no such file", kind) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", kind) from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: expected JSON, got a file that is not text", kind) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise DataError(f"{path}: not valid JSON: {error.msg} in {where}", kind) from None
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, endless nesting
        raise DataError(f"{path}: not JSON that can be read: {error}", kind) from None


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a truth value",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), "nothing (null)")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """The value itself, if it is an object."""
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object, got {kind_of(value)}", "not an object")
    return value


def list_field(entry: dict[str, Any], field: str, where: str) -> list[Any]:
    """A list of anything."""
    if field not in entry:
        raise DataError(f"{where}: {field}: the list is missing", f"{field} is missing")
    value = entry[field]
    if not isinstance(value, list):
        raise DataError(f"{where}: {field}: expected a list, got {kind_of(value)}", f"{field} is not a list")
    return value


def number_field(entry: dict[str, Any], field: str, where: str, default: float | None = None) -> float:
    """A finite number."""
    if field not in entry and default is not None:
        return default
    value = _present(entry, field, where)
    if not is_number(value):
        raise DataError(f"{where}: {field}: expected a finite number, got {value!r}", f"{field} is not a finite number")
    return float(value)


def integer_field(entry: dict[str, Any], field: str, where: str, default: int | None = None) -> int:
    """A whole number; a truth value does for ``iscrowd``."""
    value = entry.get(field, default)
    if field == "iscrowd" and isinstance(value, bool):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        value = _present(entry, field, where)
        raise DataError(f"{where}: {field}: expected a whole number, got {value!r}", f"{field} is not a whole number")
    return value


def text_field(entry: dict[str, Any], field: str, where: str, meaning: str) -> str:
    """A string that is not empty."""
    value = entry.get(field)
    if not isinstance(value, str) or not value:
        raise DataError(f"{where}: {field}: expected {meaning}, got {value!r}", f"{field} is not a name")
    return value


def numbers_field(entry: dict[str, Any], field: str, where: str, count: int, meaning: str) -> list[float]:
    """As many finite numbers as there should be."""
    values, kind = _present(entry, field, where), f"{field} is not {meaning}"
    if not isinstance(values, list):
        raise DataError(f"{where}: {field}: expected {meaning}, got {kind_of(values)}", kind)
    if len(values) != count:
        raise DataError(f"{where}: {field}: expected {meaning}, got {len(values)} values", kind)
    for value in values:
        if not is_number(value):
            raise DataError(f"{where}: {field}: expected {meaning}, got {value!r} among them", kind)
    return values


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number that a float can hold."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _present(entry: dict[str, Any], field: str, where: str) -> Any:
    if field not in entry:
        raise DataError(f"{where}: {field}: the field is missing", f"{field} is missing")
    return entry[field]
