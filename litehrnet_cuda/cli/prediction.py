"""What `predict` does with images and frames: one class for each task, all used in the same way."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

    from litehrnet_cuda.results import KeyPoints, Segmentation
    from litehrnet_cuda.video import Finding, Frame

    Array = np.ndarray[Any, Any]


class Predictor(Protocol):
    """What the command does not know about a task."""

    label: str
    """What is found, which ends the names of files: ``poses``."""

    counted: str
    """What the length of a finding is the number of: ``people``; empty where nothing is counted."""

    upright: bool
    """Whether images are turned as their EXIF orientation says."""

    def image(self, path: Path, image: Array) -> Finding:
        """What is found in an image, ``[H, W, 3]`` uint8 BGR, of a file; InputError where it cannot be looked for."""
        ...

    def video(self, source: str) -> Callable[[Frame], Finding]:
        """What finds something in the frames of one video, in their order."""
        ...

    def keep(self, finding: Finding, path: Path) -> None:
        """Writes what neither a picture nor JSON can hold of an image's finding, beside the picture at ``path``."""
        ...

    def remarks(self) -> list[str]:
        """What the user may want to know in the end, a sentence each."""
        ...


def create_predictor(args: argparse.Namespace, sources: list[Path]) -> Predictor:
    """The one for the checkpoint.

    Args:
        args: the command's arguments.
        sources: the files that will be looked at.

    Raises:
        InputError: for options that cannot be used, or that do not go together.
    """
    from litehrnet_cuda.cli.segmentation import refuse_windows
    from litehrnet_cuda.predictors.networks import task_of

    if task_of(args.checkpoint) == "segmentation":
        return SegmentationPredictor(args)
    refuse_windows(args)
    return PosePredictor(args, sources)


@dataclass(frozen=True)
class DrawnPoses:
    """The poses in an image, as they are to be drawn and written down."""

    poses: KeyPoints
    min_score: float

    def __len__(self) -> int:
        return len(self.poses)

    def draw(self, image: Array) -> Array:
        return self.poses.draw(image, min_score=self.min_score)

    def record(self) -> dict[str, Any]:
        import json

        content: dict[str, Any] = json.loads(self.poses.to_json())
        return content


class PosePredictor:
    """Poses of people: in boxes from a file, in those of a detector, or one in the whole image."""

    label = "poses"
    counted = "people"

    def __init__(self, args: argparse.Namespace, sources: list[Path]) -> None:
        from litehrnet_cuda.cli.arguments import create_estimator
        from litehrnet_cuda.data.boxes import ImageBoxes, read_boxes
        from litehrnet_cuda.errors import InputError
        from litehrnet_cuda.video import load_detector
        from litehrnet_cuda.video.poses import SEEN

        if args.boxes and args.detector:
            raise InputError("--boxes, --detector: expected one of them, got both")
        if args.detect_every is not None and not args.track:
            raise InputError("--detect-every: expected --track with it")
        self.upright = True
        self._file = args.boxes
        self._boxes: dict[Path, ImageBoxes] = {}
        if args.boxes:
            table = read_boxes(args.boxes)
            self.upright = not table.of_annotations
            self._boxes = {path: boxes for path in sources if (boxes := table.of(path)) is not None}
            if not self._boxes:
                example = f", such as {sources[0].name}" if sources else ""
                raise InputError(f"{args.boxes}: expected boxes for the images, but it names none of them{example}")
        self._detector_name = args.detector
        self._detector = load_detector(args.detector, args.device) if args.detector else None
        self._track, self._smooth = args.track, args.smooth
        self._look_every = 10 if args.detect_every is None else args.detect_every
        self._min_score = SEEN if args.min_score is None else args.min_score
        self._estimator = create_estimator(args)
        self._without = self._undrawn = 0

    def image(self, path: Path, image: Array) -> DrawnPoses:
        from litehrnet_cuda.data.boxes import ImageBoxes
        from litehrnet_cuda.video import detect

        if self._file:
            boxes = self._boxes.get(path, ImageBoxes())
            poses = self._estimator(image, boxes.boxes, boxes.scores)
            self._without += path not in self._boxes
        elif self._detector:
            found = detect(self._detector, image, self._detector_name)
            poses = self._estimator(image, found.boxes, found.scores)
        else:
            poses = self._estimator(image)
        self._undrawn += int((poses.scores < self._min_score).all(axis=1).sum())
        return DrawnPoses(poses, self._min_score)

    def video(self, source: str) -> Callable[[Frame], Finding]:
        from litehrnet_cuda.data.boxes import ImageBoxes
        from litehrnet_cuda.video import VideoPoseEstimator

        of_frame = self._boxes.get(Path(source), ImageBoxes()).of_frame if self._file else None
        self._without += bool(self._file) and Path(source) not in self._boxes
        return VideoPoseEstimator(
            self._estimator,
            boxes=of_frame,
            detector=self._detector,
            detector_name=self._detector_name or "detector",
            track=self._track,
            look_every=self._look_every,
            smooth=self._smooth,
            min_score=self._min_score,
        )

    def keep(self, finding: Finding, path: Path) -> None:
        pass

    def remarks(self) -> list[str]:
        found = []
        if self._without:
            found.append(
                f"images and videos that are not named in {self._file}: {self._without}; nobody was looked for there"
            )
        if self._undrawn:
            found.append(
                f"nothing is drawn of {self._undrawn} of the people, of whom no joint has a score of "
                f"{self._min_score:g} (--min-score)"
            )
        return found


@dataclass(frozen=True)
class DrawnClasses:
    """The classes of an image's pixels, as they are to be drawn and written down."""

    segmentation: Segmentation
    frame: Frame | None = None

    def __len__(self) -> int:
        return 0

    def draw(self, image: Array) -> Array:
        # Pictures of a video are of one size, whatever classes there are.
        return self.segmentation.draw(image, legend=self.frame is None)

    def record(self) -> dict[str, Any]:
        shares = {name: round(share, 6) for name, share in self.segmentation.coverage().items() if share}
        content: dict[str, Any] = {"class_set": self.segmentation.class_set.name, "coverage": shares}
        if self.frame is None:
            return content
        return {"frame": self.frame.index, "time": round(self.frame.time, 6), **content}


class SegmentationPredictor:
    """The class of every pixel; the indices of images are kept as grey pictures."""

    label = "classes"
    counted = ""
    upright = True

    def __init__(self, args: argparse.Namespace) -> None:
        from litehrnet_cuda.cli.segmentation import create_segmenter
        from litehrnet_cuda.errors import InputError

        options = ("boxes", "detector", "decoder", "min_score", "detect_every")
        unfit = [name for name in options if getattr(args, name) is not None]
        unfit += [name for name in ("track", "smooth") if getattr(args, name)]
        if unfit:
            raise InputError(
                f"--{unfit[0].replace('_', '-')}: expected a checkpoint of poses with it, got one of segmentation"
            )
        self._segmenter = create_segmenter(args)

    def image(self, path: Path, image: Array) -> DrawnClasses:
        return DrawnClasses(self._segmenter(image))

    def video(self, source: str) -> Callable[[Frame], DrawnClasses]:
        return lambda frame: DrawnClasses(self._segmenter(frame.image), frame)

    def keep(self, finding: Finding, path: Path) -> None:
        assert isinstance(finding, DrawnClasses)
        finding.segmentation.save(path.with_suffix(".png"))

    def remarks(self) -> list[str]:
        return []
