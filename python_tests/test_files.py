"""Results appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from litehrnet_cuda.errors import InputError
from litehrnet_cuda.files import output_folder, written_whole


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "log.txt"
    with written_whole(target) as draft:
        draft.write_text("half")
        assert draft.parent == target.parent  # a rename is atomic only within a file system
        assert draft.suffix == ".txt"
        assert not target.exists()
    assert target.read_text() == "half"
    assert [file.name for file in target.parent.iterdir()] == ["log.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_all_is_as_before(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "log.txt"
    target.write_text("old")

    def write_half() -> None:
        with written_whole(target) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["log.txt"]


def test_two_drafts_at_once_are_two_files(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.txt") as one, written_whole(tmp_path / "b.txt") as other:
        one.write_text("a")
        other.write_text("b")
    assert (tmp_path / "a.txt").read_text() + (tmp_path / "b.txt").read_text() == "ab"


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 251 + ".txt")
    with written_whole(target) as draft:
        draft.write_text("whole")
    assert target.read_text() == "whole"


def test_places_that_cannot_be_written_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "inside").mkdir(parents=True)

    def write(target: Path) -> None:
        with written_whole(target) as draft:
            draft.write_text("whole")

    for target in (tmp_path / "file" / "below" / "log.txt", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match=r"cannot be written \(.+\); choose another place"):
            write(target)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "inside"]


def test_a_draft_that_nobody_wrote_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"), written_whole(tmp_path / "log.txt"):
        pass


def test_output_folder_is_created_and_left_empty(tmp_path: Path) -> None:
    folder = output_folder(str(tmp_path / "runs" / "first"))
    assert folder == tmp_path / "runs" / "first"
    assert list(folder.iterdir()) == []
    assert output_folder(folder) == folder


def test_output_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match=r"cannot be written \(.+\); choose another folder"):
            output_folder(folder)


def test_a_durable_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    flush, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        events.append("flush")
        flush(descriptor)

    def replaced(draft: Path, target: Path) -> None:
        events.append("replace")
        replace(draft, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    with written_whole(tmp_path / "state.pt", durable=True) as draft:
        draft.write_text("whole")
    assert events == ["flush", "replace", "flush"]  # the file, its name, and the folder that has the name


def test_a_full_disk_is_said_with_another_way_out(tmp_path: Path) -> None:
    message = r"log.txt: cannot be written \(No space left on device\); make room or choose another place"
    with pytest.raises(InputError, match=message), written_whole(tmp_path / "log.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
