"""What the tests of shared work run in each of several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from litehrnet_cuda.data.coco import CocoKeypoints
from litehrnet_cuda.engine.distributed import ALONE, Processes
from litehrnet_cuda.engine.evaluate import Evaluation, evaluate
from litehrnet_cuda.errors import InputError
from litehrnet_cuda.predictors.pose_estimator import PoseEstimator


def exchange(processes: Processes) -> dict[str, Any]:
    """Who is who, shares of seven things, tensors of the first, and errors of one or both."""

    def fail(numbers: tuple[int, ...], error: type[Exception]) -> str:
        def work() -> None:
            if processes.rank in numbers:
                raise error(f"no luck in {processes.rank}")

        try:
            processes.gathered(work)
        except Exception as raised:
            return f"{type(raised).__name__}: {raised}"
        return "nothing"

    tensors = [torch.full((2, 2), processes.rank + 0.5), torch.tensor(processes.rank + 7), torch.ones(0)]
    processes.copy_first(tensors)
    return {
        "number": (processes.rank, processes.count),
        "shares": [list(processes.share(range(7), size)) for size in (1, 2, 8)],
        "found": processes.gathered(lambda: {"rank": processes.rank}),
        "of the first": [tensor.tolist() for tensor in tensors],
        "errors": [
            fail((), InputError),
            fail((1,), InputError),
            fail((0, 1), InputError),
            fail((1,), KeyError),
        ],
    }


def evaluate_files(
    processes: Processes, annotation_file: Path, images: Path, checkpoint: Path, **options: Any
) -> Evaluation:
    """The evaluation of a checkpoint on a COCO file, in batches of two people."""
    estimator = PoseEstimator(checkpoint=checkpoint, batch_size=2, flip_test=True, decoder="dark")
    people = CocoKeypoints(annotation_file, images)
    return evaluate(estimator, people, processes=processes, progress=False, **options)


def evaluate_in_several_ways(
    processes: Processes, annotation_file: Path, images: Path, broken_images: Path, checkpoint: Path
) -> tuple[Evaluation, float | None, str, Evaluation]:
    """With the other process; in the first one while the other does something else; and where an image is broken."""
    shared = evaluate_files(processes, annotation_file, images, checkpoint)
    alone = evaluate_files(ALONE, annotation_file, images, checkpoint).score if processes.first else None
    said = "nothing"
    try:
        evaluate_files(processes, annotation_file, broken_images, checkpoint)
    except InputError as error:
        said = str(error)
    return shared, alone, said, evaluate_files(processes, annotation_file, broken_images, checkpoint, bad_images="skip")
