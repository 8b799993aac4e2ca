"""JSON files and their fields; test_coco.py and test_mpii.py try every message."""

from __future__ import annotations

from pathlib import Path

import pytest

from litehrnet_cuda.data.json_fields import DataError, is_number, kind_of, number_field, numbers_field, read_json


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n "b": }', r"not valid JSON: .* in line 2, column 7"),
        (b"\xff\xfe", "expected JSON, got a file that is not text"),
        (b"[" * 100_000, "not JSON that can be read"),
    ],
)
def test_files_that_are_no_json(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "people.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"people\.json: {message}") as caught:
        read_json(file)
    assert caught.value.kind == "the file cannot be read"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1]", encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == [1]


def test_an_error_can_be_made_of_its_message_alone() -> None:
    """As the loader does, when it brings an error from a worker."""
    assert DataError("a.json: broken").kind == "other mistakes"


def test_numbers_and_kinds() -> None:
    assert [is_number(value) for value in (1, 2.5, True, None, "1", float("nan"), float("inf"), 10**400)] == [
        *(True, True, False, False, False, False, False, False)
    ]
    assert [kind_of(value) for value in ({}, [], "", True, 1, 1.5, None)] == [
        *("an object", "a list", "a string", "a truth value", "a number", "a number", "nothing (null)")
    ]


def test_mistakes_of_a_kind_are_told_by_their_kind() -> None:
    kinds = set()
    for values in ([1, 2], "1 2 3", [1, 2, None]):
        with pytest.raises(DataError) as caught:
            numbers_field({"center": values}, "center", "person 3", 3, "3 numbers")
        kinds.add(caught.value.kind)
    assert kinds == {"center is not 3 numbers"}
    with pytest.raises(DataError, match="person 3: scale: the field is missing") as caught:
        number_field({}, "scale", "person 3")
    assert caught.value.kind == "scale is missing"
