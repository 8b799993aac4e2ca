"""What the tests of shared work run in each of several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.engine.gathering import gathered, rank, share_of_batches, world_size
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator


def exchange() -> dict[str, Any]:
    """Who is who, shares of seven things, and errors of one or both."""

    def fail(numbers: tuple[int, ...], error: type[Exception]) -> str:
        def work() -> None:
            if rank() in numbers:
                raise error(f"no luck in {rank()}")

        try:
            gathered(work)
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}"
        return "nothing"

    return {
        "number": (rank(), world_size()),
        "shares": [list(share_of_batches(range(7), size)) for size in (1, 2, 8)],
        "found": gathered(lambda: {"rank": rank()}),
        "errors": [
            fail((), InputError),
            fail((1,), InputError),
            fail((0, 1), InputError),
            fail((1,), KeyError),
        ],
    }


def evaluate_files(annotation_file: Path, images: Path, checkpoint: Path, *, together: bool) -> Evaluation:
    """The evaluation of a checkpoint on a COCO file, in batches of two people."""
    estimator = PoseEstimator(checkpoint=checkpoint, batch_size=2, flip_test=True, decoder="dark")
    return evaluate(estimator, CocoKeypoints(annotation_file, images), together=together, progress=False)


def evaluate_in_several_ways(
    annotation_file: Path, images: Path, broken_images: Path, checkpoint: Path
) -> tuple[Evaluation, float | None, str]:
    """With the other process; in the first one while the other does something else; and where an image is broken."""
    shared = evaluate_files(annotation_file, images, checkpoint, together=True)
    alone = None if rank() else evaluate_files(annotation_file, images, checkpoint, together=False).score
    said = "nothing"
    try:
        evaluate_files(annotation_file, broken_images, checkpoint, together=True)
    except InputError as error:
        said = str(error)
    return shared, alone, said
