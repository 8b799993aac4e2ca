"""Writing files so that a reader never finds half of one."""

from __future__ import annotations

import errno
import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litehrnet_cuda.errors import InputError

_numbers = itertools.count()
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def written_whole(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives the path of a draft beside ``path``, which takes its place at the end, or disappears after an error.

    The folder is created. The draft is in the same folder, because a rename is atomic only within a file system, and
    has the same ending, because many writers choose the format by it.

    Args:
        path: of the file.
        durable: wait until it is on the disk, so that a crash of the machine leaves the old file or the new one too.

    Raises:
        InputError: if the place cannot be written to.
    """
    # Numbered rather than named after ``path``, whose name may be as long as a name can be.
    draft = path.with_name(f".unfinished-{os.getpid()}-{next(_numbers)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        if durable:
            _flush(draft)
        os.replace(draft, path)
        if durable and os.name != "nt":  # Windows opens no folders
            _flush(path.parent)  # the new name
    except OSError as error:
        way_out = "make room or choose another place" if error.errno in _FULL else "choose another place"
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); {way_out}") from error
    finally:
        # An unwritable folder, or a file where a folder should be, was reported already.
        try:
            draft.unlink(missing_ok=True)
        except OSError:
            pass


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def output_folder(path: str | Path) -> Path:
    """Creates a folder for results, and tries that files can be created there: better now than after the work.

    Raises:
        InputError: if it cannot be created or written to.
    """
    folder = Path(path)
    probe = folder / f".unfinished-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from error
    return folder
