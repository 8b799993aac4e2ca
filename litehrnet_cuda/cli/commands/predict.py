"""`litehrnet predict`: what a network finds in images, videos and in front of cameras."""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import add_estimator_arguments, at_least_one, finite_number, whole_number
from litehrnet_cuda.cli.segmentation import add_window_arguments

if TYPE_CHECKING:
    from litehrnet_cuda.cli.prediction import Predictor

EPILOG = """\
writes
  OUT/NAME_poses.jpg, OUT/poses.json     of images: drawn on each; people by image
  OUT/NAME_poses.mp4, NAME_poses.jsonl   of videos: drawn (MPEG-4); a line of JSON a frame
  of segmentation "classes" for "poses", and OUT/NAME_classes.png of images: the indices
FILE of boxes (for videos also by frame: see docs/video.md)
  {"street.jpg": [[left, top, right, bottom], ...], ...}, or a COCO annotation file, or
  [{"file_name": "street.jpg", "bbox": [left, top, width, height], "score": 0.9}, ...]
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "litehrnet predict SOURCE [SOURCE ...] --checkpoint FILE --out DIR [options]"
    parser.epilog = EPILOG
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="images, videos, folders, webcam:0, rtsp://...")
    parser.add_argument("--webcam", type=whole_number, metavar="N", help="a camera: the same as webcam:N")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--boxes", metavar="FILE", help="boxes of people (default: one person, the whole image)")
    parser.add_argument(
        "--detector", metavar="D", help="finds people: model.onnx, my_file.py:function, module:function"
    )
    parser.add_argument("--track", action="store_true", help="follow people through a video by their poses")
    parser.add_argument(
        "--detect-every",
        type=whole_number,
        metavar="N",
        help="frames, with --track (default: 10; 0: if lost)",
    )
    parser.add_argument("--smooth", action="store_true", help="steady the joints in videos (one-euro filter)")
    parser.add_argument("--frames", type=at_least_one, metavar="N", help="stop a video after N frames")
    parser.add_argument(
        "--min-score", type=finite_number, metavar="S", help="joints below it are not drawn (default: 0.2)"
    )
    add_estimator_arguments(parser)
    add_window_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.cli.prediction import create_predictor
    from litehrnet_cuda.cli.sources import find_sources
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import output_folder

    given = [*args.sources, *([] if args.webcam is None else [f"webcam:{args.webcam}"])]
    if not given:
        raise InputError("expected images, videos, folders or a camera to look at, got none")
    sources = find_sources(given)
    files = [*sources.images, *map(Path, sources.videos)]
    if not sources.videos:
        for option in ("track", "smooth", "frames", "detect_every"):
            if getattr(args, option):
                raise InputError(f"--{option.replace('_', '-')}: is for videos, and there is none")
    predictor = create_predictor(args, files)
    failures: list[str] = []
    with _ended_like_interrupted(), _not_left_empty(Path(args.out)):
        out = output_folder(args.out)
        try:
            if sources.images:
                _predict_images(predictor, sources.images, out, failures)
            if sources.videos:
                _predict_videos(predictor, sources.videos, out, args.frames, failures)
        finally:  # also of an interrupted run
            for remark in predictor.remarks():
                print(remark)
            for failure in failures:
                print(f"litehrnet predict: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _predict_images(predictor: Predictor, images: list[Path], out: Path, failures: list[str]) -> None:
    """Leaves a picture of each image and a file on all; adds what failed, a sentence each."""
    from tqdm import tqdm

    from litehrnet_cuda.cli.sources import result_names
    from litehrnet_cuda.data.images import encode_image, read_image
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import written_whole

    pictures = result_names(images, out, f"_{predictor.label}.jpg")
    found: dict[str, Any] = {}
    total = 0
    try:
        for path in tqdm(images, desc="predict", unit="image", leave=False, disable=len(images) == 1 or None):
            try:
                image = read_image(path, upright=predictor.upright)
                finding = predictor.image(path, image)
                picture = encode_image(finding.draw(image), ".jpg")
            except InputError as error:
                failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
                continue
            with written_whole(out / pictures[path]) as draft:
                draft.write_bytes(picture)
            predictor.keep(finding, out / pictures[path])
            found[str(path)] = finding.record()
            total += len(finding)
    finally:  # an interrupted run leaves what it has
        if found:
            with written_whole(out / f"{predictor.label}.json") as draft:
                draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found:
        counted = f", {predictor.counted}: {total}" if predictor.counted else ""
        print(f"images: {len(found)}{counted}; pictures and {predictor.label}.json are in {out}")


def _predict_videos(predictor: Predictor, videos: list[str], out: Path, limit: int | None, failures: list[str]) -> None:
    """Leaves a video and lines of JSON of each video; adds what failed, a sentence each."""
    from tqdm import tqdm

    from litehrnet_cuda.cli.sources import result_names
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.video import Progress, VideoFrames, annotate_video, describe_damage
    from litehrnet_cuda.video.frames import is_live

    names = result_names(videos, out, f"_{predictor.label}.mp4")
    for number, source in enumerate(videos, 1):
        video, progress, live, damage = out / names[source], Progress(), False, None
        kept, terminated = f"{video} and .jsonl", False
        try:
            with VideoFrames(source) as frames:
                live = frames.live
                total = min(filter(None, (frames.count, limit)), default=None)
                try:
                    annotate_video(
                        frames,
                        predictor.video(source),
                        video=video,
                        lines=video.with_suffix(".jsonl"),
                        limit=limit,
                        watch=functools.partial(
                            tqdm, desc=Path(source).name, unit=" frames", total=total, leave=False, disable=None
                        ),
                        progress=progress,
                    )
                finally:  # also of a camera that was stopped
                    damage = describe_damage(frames)
        except InputError as error:
            failures.append(str(error) if source in str(error) else f"{source}: {error}")
            if not progress.frames:
                continue
            kept = "it ended there"
        except KeyboardInterrupt as stop:
            if not live:  # for a camera it is the way to end
                there = f"; {kept} have the first {progress.frames} frames" if progress.frames else ""
                raise KeyboardInterrupt(f"interrupted{there}") from None
            terminated = isinstance(stop, _Terminated)
        counted = f", {progress.found / max(progress.frames, 1):.1f} {predictor.counted} in each"
        speed = f"{progress.frames} frames, {progress.rate:.1f} per second{counted if predictor.counted else ''}"
        print(f"{source}: {speed}; {kept if progress.frames else 'nothing is written'}")
        if damage:
            print(f"litehrnet predict: {damage}", file=sys.stderr)
        if terminated:
            left = [source for source in videos[number:] if not is_live(source)]
            if left:
                failures.append(f"ended from outside before {', '.join(left)}")
            break


@contextmanager
def _not_left_empty(folder: Path) -> Iterator[None]:
    """Folders that were not there before go again if nothing was written into them."""
    new = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    try:
        yield
    finally:
        for place in new:
            with suppress(OSError):  # it is not empty, or was never made
                place.rmdir()


class _Terminated(KeyboardInterrupt):
    """SIGTERM came: not one camera ends, but all."""


@contextmanager
def _ended_like_interrupted() -> Iterator[None]:
    """SIGTERM, which service managers send, ends the run in order, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # where Python delivers none
        yield
        return

    def end(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
