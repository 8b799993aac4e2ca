"""Writing files so that a reader never finds half of one."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litehrnet_cuda.errors import InputError

_numbers = itertools.count()


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Gives the path of a draft beside ``path``, which takes its place at the end, or disappears after an error.

    The folder is created. The draft is in the same folder, because a rename is atomic only within a file system, and
    has the same ending, because many writers choose the format by it.

    Raises:
        InputError: if the place cannot be written to.
    """
    # Numbered rather than named after ``path``, whose name may be as long as a name can be.
    draft = path.with_name(f".unfinished-{os.getpid()}-{next(_numbers)}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        os.replace(draft, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error
    finally:
        # An unwritable folder, or a file where a folder should be, was reported already.
        try:
            draft.unlink(missing_ok=True)
        except OSError:
            pass


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
