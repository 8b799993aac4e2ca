"""Drawn people as a COCO folder: images, key points, boxes and masks that any reader of COCO understands."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from litehrnet_cuda.data.generated.clothes import CATEGORIES
from litehrnet_cuda.data.generated.scene import PEOPLE, SIZE, VERSION, check_arguments, generate_scene
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.keypoints import COCO

Entry = tuple[dict[str, Any], list[dict[str, Any]]]  # an image of the annotation file, and its people

_JPEG_QUALITY = 92


def write_coco(
    directory: str | os.PathLike[str],
    count: int,
    seed: int = 0,
    split: str = "train",
    size: tuple[int, int] = SIZE,
    people: tuple[int, int] = PEOPLE,
    replace: bool = True,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Writes a split of drawn people as a COCO folder.

    The result is ``directory/annotations/person_keypoints_{split}.json``, ``directory/{split}/000000000001.jpg`` ...
    and ``directory/masks/{split}/000000000001.png`` (indices into ``clothes.CATEGORIES``). The annotations
    appear last, in one step: where they are, the split is complete. A complete split of the same parameters is reused;
    one of other parameters is replaced; a split that this function has not written is left alone.

    Args:
        count: number of images, 1 or more.
        seed, size, people: see ``scene.generate_scene``; the name of the split is part of the seed, so that the
            images of ``train`` and ``val`` differ.
        replace: False refuses to replace a complete split of other parameters.
        workers: processes that draw; above 1, call it from a script with a ``__main__`` guard.
        progress: called with the number of images done so far, after each.

    Returns:
        The path of the annotations.

    Raises:
        InputError: for unusable arguments, or when other data, or a split that is not to be replaced, lie in the place.
    """
    if count < 1:
        raise InputError(f"count: expected 1 or more images, got {count}")
    if workers < 1:
        raise InputError(f"workers: expected 1 or more processes, got {workers}")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", split) or split in ("annotations", "masks"):
        raise InputError(
            f"split: expected a name of letters, digits, '-' and '_', such as 'train' or 'val', got {split!r}"
        )
    root = Path(directory)
    annotation_file = root / "annotations" / f"person_keypoints_{split}.json"
    images, masks = root / split, root / "masks" / split
    check_arguments(seed, 0, size, people)
    parameters = {
        "version": VERSION, "count": count, "seed": seed, "split": split, "size": list(size), "people": list(people)
    }  # fmt: skip
    draft = root / f".{split}.unfinished"
    found = generator_parameters(annotation_file) if annotation_file.exists() else None
    if found == parameters and images.is_dir() and masks.is_dir():
        return annotation_file
    occupied = annotation_file.exists() or ((images.exists() or masks.exists()) and not draft.exists())
    if found is None and occupied:
        raise InputError(
            f"{root}: expected room for the split {split!r} or a set that this generator wrote, got other data; "
            "choose another directory"
        )
    if found is not None and found != parameters and not replace:
        changed = [f"{name} {found.get(name)}" for name, value in parameters.items() if value != found.get(name)]
        asked = [f"{name} {value}" for name, value in parameters.items() if value != found.get(name)]
        raise InputError(
            f"{root}: expected the drawings of {split!r} that are there, of {', '.join(changed)}, got "
            f"{', '.join(asked)}; ask for the same again, or choose another directory"
        )
    draw = partial(_draw_files, draft, seed=(seed, zlib.crc32(split.encode())), size=size, people=people)
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "images").mkdir(parents=True)
    (draft / "masks").mkdir()
    try:
        entries = []
        for entry in _map(draw, count, workers):
            entries.append(entry)
            if progress is not None:
                progress(len(entries))
        (draft / "annotations.json").write_text(json.dumps(_document(entries, parameters)))
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    # The draft goes last: as long as it is there, the next run knows that images without annotations are ours.
    annotation_file.unlink(missing_ok=True)
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    for source, target in ((draft / "images", images), (draft / "masks", masks)):
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    os.replace(draft / "annotations.json", annotation_file)
    shutil.rmtree(draft)
    return annotation_file


def _map(draw: Callable[[int], Entry], count: int, workers: int) -> Iterator[Entry]:
    if workers == 1:
        yield from map(draw, range(count))
        return
    # "spawn": a forked child of a process with running threads (as torch's) may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # Ctrl-C reaches all processes, and one that it stopped in the middle of an answer would be waited for without
        # end. They inherit that it is blocked.
        with _blocked_interrupts():
            entries = pool.map(draw, range(count), chunksize=8)
        yield from entries


@contextmanager
def _blocked_interrupts() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _draw_files(
    draft: Path, index: int, seed: tuple[int, int], size: tuple[int, int], people: tuple[int, int]
) -> Entry:
    """Draws and saves image ``index``; returns its entry in the list of images, and its annotations."""
    scene = generate_scene(seed, index, size, people)
    name = f"{index + 1:012d}"
    jpeg = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
    (draft / "images" / f"{name}.jpg").write_bytes(jpeg.tobytes())
    (draft / "masks" / f"{name}.png").write_bytes(cv2.imencode(".png", scene.mask)[1].tobytes())
    height, width = scene.mask.shape
    image = {"id": index + 1, "license": 1, "file_name": f"{name}.jpg", "width": width, "height": height}
    return image, scene.annotations


def _document(entries: list[Entry], parameters: dict[str, Any]) -> dict[str, Any]:
    annotations = [annotation for _, people in entries for annotation in people]
    return {
        "info": {
            "description": "Drawn people with exact key points",
            "version": str(VERSION),
            "contributor": "litehrnet_cuda.data.generated",
            "generator": parameters,
            "mask_categories": list(CATEGORIES),
        },
        "licenses": [{"id": 1, "name": "CC0 1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "images": [image for image, _ in entries],
        "annotations": [{"id": i + 1, **annotation} for i, annotation in enumerate(annotations)],
        "categories": [
            {
                "id": 1,
                "name": "person",
                "supercategory": "person",
                "keypoints": list(COCO.names),
                "skeleton": [[a + 1, b + 1] for a, b in COCO.links],
            }
        ],
    }


def generator_parameters(annotation_file: Path) -> dict[str, Any] | None:
    """What the set in a file was generated with; None when it comes from elsewhere."""
    try:
        info = json.loads(annotation_file.read_text()).get("info", {})
    except (ValueError, AttributeError):
        return None
    parameters = info.get("generator") if isinstance(info, dict) else None
    return parameters if isinstance(parameters, dict) else None
