"""`python -m benchmarks loader`: how many images a worker of the loader makes ready in a second, and where time goes.

Drawn people of 640x480 pixels, at the official size and augmentation. The stages are those of `PoseDataset`, one after
the other on the same people; every number is a median over people, so that what disturbs the machine now and then does
not count. Everything runs in one thread, as it does in a worker.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litehrnet_cuda.data.annotations import PoseAnnotations
    from litehrnet_cuda.data.pose_dataset import PoseDataset

IMAGES = 16


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m benchmarks loader", description=__doc__.split("\n\n")[0])
    result.add_argument("--data", type=Path, metavar="PATH", help="a data set of your own: its training people")
    result.add_argument("--size", default="192x256", metavar="WxH", help="of the crops (default: %(default)s)")
    result.add_argument("--people", type=int, default=400, metavar="N", help="to measure (default: %(default)s)")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    from litehrnet_cuda.cli.arguments import image_size

    with tempfile.TemporaryDirectory() as folder:
        annotations = people(options.data, Path(folder))
        for line in report(annotations, image_size(options.size), options.people):
            print(line)
    return 0


def people(data: Path | None, folder: Path) -> PoseAnnotations:
    """The training people of a data set, or drawn ones."""
    from litehrnet_cuda.data.coco import CocoKeypoints
    from litehrnet_cuda.data.datasets import locate_splits
    from litehrnet_cuda.data.generated.coco_folder import write_coco

    if data is not None:
        return locate_splits(data)["train"].read()
    return CocoKeypoints(write_coco(folder, IMAGES, size=(640, 480)), folder / "train")


def report(annotations: PoseAnnotations, size: tuple[int, int], count: int) -> list[str]:
    """The lines of the report."""
    import cv2
    import torch

    from litehrnet_cuda.data.pose_dataset import PoseDataset

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    from_files = PoseDataset(annotations, size)
    from_memory = PoseDataset(annotations, size, cache_images=True)
    rows = [row % len(from_files) for row in range(count)]
    times = stage_times(from_memory, rows)
    total = sum(times.values())
    lines = [
        f"{len(annotations.people)} people in {len(annotations.images)} images, crops of {size[0]}x{size[1]} pixels"
    ]
    lines += [f"  {stage:<18} {1e6 * seconds:6.0f} us {seconds / total:5.0%}" for stage, seconds in times.items()]
    for name, dataset in (("from files", from_files), ("from memory", from_memory)):
        seconds = median_time(dataset.__getitem__, rows)
        lines.append(f"{name:<13} {1 / seconds:6.0f} images/s in one worker, {1e6 * seconds:.0f} us each")
    return lines


def stage_times(dataset: PoseDataset, rows: Sequence[int]) -> dict[str, float]:
    """Median seconds of each stage for one person; what is cut out is in memory."""
    import numpy as np

    from litehrnet_cuda.codecs.heatmap import encode_heatmaps
    from litehrnet_cuda.data.transforms import normalize

    crops = [dataset.crop(row) for row in rows[: len(dataset)]]
    pixels = [np.ascontiguousarray(crop.pixels) for crop in crops]
    people = dataset.annotations.people

    def draw(row: int) -> object:
        _, keypoints, visible = crops[row]
        return encode_heatmaps(keypoints, visible, dataset.input_size, dataset.heatmap_size, dataset.sigma)

    stages: dict[str, Callable[[int], object]] = {
        "read and decode": lambda row: dataset.annotations.read_image(people[row].image_id),
        "cut out and warp": dataset.crop,
        "normalise": lambda row: normalize(pixels[row]),
        "draw heat maps": draw,
    }
    return {name: median_time(stage, rows) for name, stage in stages.items()}


def median_time(call: Callable[[int], object], rows: Sequence[int]) -> float:
    """Median seconds of a call, of which the first goes without a clock."""
    call(rows[0])
    seconds = []
    for row in rows:
        start = time.perf_counter()
        call(row)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)
