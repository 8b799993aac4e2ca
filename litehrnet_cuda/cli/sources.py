"""What `predict` is given, sorted into images and videos, and the names of what it leaves of each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Sources:
    """Image files, and videos: files, cameras and addresses of streams."""

    images: list[Path] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)


def find_sources(given: Sequence[str]) -> Sources:
    """Sorts what is given: a folder stands for the images and the videos in it, in order of name, without hidden ones.

    Raises:
        InputError: if a path does not exist or cannot be looked into, or a folder holds neither.
    """
    from litehrnet_cuda.data.images import find_images
    from litehrnet_cuda.video.frames import is_live, is_video

    images: list[Path] = []
    videos: list[str] = []
    for source in given:
        if is_live(source):
            videos.append(source)
        elif os.path.isdir(source):
            inside = _inside(Path(source))
            videos += [str(file) for file in inside if is_video(file)]
            images += [file for file in inside if not is_video(file)]
        else:
            found = find_images([source])  # it exists
            videos += [str(file) for file in found if is_video(file)]
            images += [file for file in found if not is_video(file)]
    return Sources(list(dict.fromkeys(images)), list(dict.fromkeys(videos)))


def result_names(sources: Iterable[str | Path], out: Path, ending: str) -> dict[str | Path, str]:
    """A name for the result of every source: its own with an ending such as ``"_poses.jpg"``.

    Names are numbered where sources of different folders share theirs, and never those of a source in ``out``.
    """
    from litehrnet_cuda.video.frames import is_live

    sources = list(sources)
    files = [Path(source) for source in sources if not is_live(source)]
    taken = {path.stem for path in files if path.resolve().parent == out.resolve()}
    marker = Path(ending).stem
    names: dict[str | Path, str] = {}
    for source in sources:
        stem = _stem_of_live(str(source)) if is_live(source) else Path(source).stem
        base, number = f"{stem}{marker}", 1
        while base in taken:
            number += 1
            base = f"{stem}_{number}{marker}"
        taken.add(base)
        names[source] = f"{base}{Path(ending).suffix}"
    return names


def _inside(folder: Path) -> list[Path]:
    from litehrnet_cuda.data.images import SUFFIXES
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.video.frames import SUFFIXES as VIDEO_SUFFIXES

    endings = (*SUFFIXES, *VIDEO_SUFFIXES)
    try:
        files = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in endings and not file.name.startswith(".") and file.is_file()
        )
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror}") from None
    if not files:
        raise InputError(
            f"{folder}: expected images ({', '.join(SUFFIXES)}) or videos in the folder itself, found none"
        )
    return files


def _stem_of_live(source: str) -> str:
    """``"webcam:0"`` to ``"webcam0"``; a stream goes by the last part of its address that names anything."""
    from litehrnet_cuda.video.frames import WEBCAM

    if source.startswith(WEBCAM):
        return source.replace(":", "")
    parts = [part for part in source.split("?")[0].split("/") if part]
    return "".join(letter for letter in Path(parts[-1]).stem if letter.isalnum() or letter in "-_") or "stream"
