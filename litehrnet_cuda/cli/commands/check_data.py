"""`litehrnet check-data`: what is wrong with a data set, and what it looks like."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import at_least_one, image_size, whole_number

if TYPE_CHECKING:
    import numpy as np

    from litehrnet_cuda.data.annotations import PoseAnnotations
    from litehrnet_cuda.data.check import SplitReport
    from litehrnet_cuda.data.datasets import Split
    from litehrnet_cuda.data.pose_dataset import PoseDataset
    from litehrnet_cuda.keypoints import KeypointSet

    Array = np.ndarray[Any, Any]

EPILOG = """\
PATH is a folder with COCO's, MPII's or Cityscapes' layout, or of images and masks, a TOML file that describes a data
set (docs/own_data.md), or one JSON file of annotations of COCO's or MPII's joints. Of drawn people, --masks looks at
the masks.

Errors are what training would stop at or leave out by mistake; warnings may be meant. The picture shows people as they
are annotated and, beside it, as training would see them, cut out and augmented.

The exit status is 1 if there are errors. Without --fast every image is read: minutes for COCO.
"""
COLUMNS = 5
BOX_COLOR = (255, 255, 255)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("path", metavar="PATH", help="the data set")
    parser.add_argument("--images", metavar="DIR", help="of the images, if PATH is a JSON file (default: as in COCO)")
    parser.add_argument("--masks", action="store_true", help="of data with people and masks, check the masks")
    parser.add_argument("--fast", action="store_true", help="look whether images are there, but do not read them")
    parser.add_argument("--out", metavar="FILE", help="draw people into this picture, such as samples.png")
    parser.add_argument(
        "--samples", type=at_least_one, default=20, metavar="N", help="people in it (default: %(default)s)"
    )
    parser.add_argument(
        "--size", type=image_size, default=(192, 256), metavar="WxH", help="of the crops in it (default: 192x256)"
    )
    parser.add_argument("--seed", type=whole_number, default=0, help="of who is drawn (default: %(default)s)")
    parser.add_argument(
        "--first", type=at_least_one, default=5, metavar="N", help="problems of a kind to print (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from litehrnet_cuda.cli.check_masks import check_masks
    from litehrnet_cuda.cli.checking import print_problems, progress_on, verdict
    from litehrnet_cuda.data.check import check_splits
    from litehrnet_cuda.data.mask_datasets import has_masks

    if args.out:
        require_picture(args.out)
    if args.masks or has_masks(args.path):
        return check_masks(args)
    splits = find(args)
    with tqdm(unit="image", disable=None, leave=False) as bar:
        reports = check_splits(splits, decode=not args.fast, threads=os.cpu_count() or 1, progress=progress_on(bar))
    for name, report in reports.items():
        print(f"{name}: {splits[name].annotation_file}")
        print_problems(report, args.first)
        if report.annotations is not None:
            print_summary(report.annotations)
    if args.out:
        drawn = draw(args.out, reports, args)
        print(f"see {args.out}" if drawn else f"no person can be drawn, so {args.out} is not written")
    return verdict(reports.values())


def require_picture(file: str) -> None:
    """Raises :class:`InputError` where the name is not of a picture, before everything is read."""
    from litehrnet_cuda.data.images import SUFFIXES
    from litehrnet_cuda.errors import InputError

    if Path(file).suffix.lower() not in SUFFIXES:
        raise InputError(f"--out: expected a file that ends with {', '.join(SUFFIXES)}, got {file}")


def find(args: argparse.Namespace) -> dict[str, Split]:
    """The parts of the data set that the command line names."""
    from litehrnet_cuda.data.datasets import Split, image_folder, locate_splits
    from litehrnet_cuda.errors import InputError

    path = Path(args.path)
    if path.suffix.lower() == ".json":
        return {path.stem: Split(path, Path(args.images) if args.images else image_folder(path))}
    if args.images:
        raise InputError(f"--images: expected a JSON file of annotations as PATH to go with it, got {path}")
    return locate_splits(path)


def print_summary(annotations: PoseAnnotations) -> None:
    """The figures of one part: images, people, boxes, and how many people have each joint."""
    from litehrnet_cuda.data.check import summarize

    summary = summarize(annotations)
    print(f"  {summary.images} images, {summary.without_people} without people; {summary.people} people")
    if not summary.people:
        return
    low, middle, high = (f"{width:.0f}x{height:.0f}" for width, height in summary.box_sizes)
    print(f"  boxes of {middle} pixels (median); 5 % are below {low}, 5 % above {high}")
    width = max(map(len, summary.joints))
    for name, count in summary.joints.items():
        print(f"    {name:<{width}} {count:>8} {count / summary.people:>6.1%}")


def draw(file: str, reports: dict[str, SplitReport], args: argparse.Namespace) -> bool:
    """Draws people of all parts as annotated and as augmented; False if there are none whose images can be read."""
    import numpy as np

    from litehrnet_cuda.data.images import encode_image
    from litehrnet_cuda.data.pose_dataset import PoseDataset
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import written_whole
    from litehrnet_cuda.visualize import contact_sheet

    drawable = {name: report.annotations for name, report in reports.items() if report.annotations is not None}
    drawable = {name: found for name, found in drawable.items() if found.people}
    pictures, titles = [], []
    for part, (name, found) in enumerate(drawable.items()):
        count = args.samples // len(drawable) + (part < args.samples % len(drawable))
        dataset = PoseDataset(found, args.size, seed=args.seed, bad_images="skip")
        for row in np.random.default_rng((args.seed, part)).permutation(len(found.people)):
            if count == 0:
                break
            person = found.people[row]
            try:
                pictures.append(side_by_side(dataset, int(row)))
            except InputError:  # of the image, and reported
                continue
            titles.append(f"{name} {person.annotation_id}, {found.images[person.image_id].path.name}")
            count -= 1
    if not pictures:
        return False
    heading = "As annotated, and as training sees it (blue: their left, orange: their right)"
    sheet = contact_sheet(pictures, titles, columns=COLUMNS, heading=heading)
    with written_whole(Path(file)) as draft:
        draft.write_bytes(encode_image(sheet, draft.suffix))
    return True


def side_by_side(dataset: PoseDataset, row: int) -> Array:
    """One person twice, ``[H, 2 W + 4, 3]`` uint8 BGR: cut out with the annotated box, and augmented."""
    import numpy as np

    from litehrnet_cuda.data.transforms import boxes_to_centers_scales, crop, warp_keypoints, warp_matrix

    annotations, size = dataset.annotations, dataset.input_size
    person = annotations.people[row]
    matrix = warp_matrix(*boxes_to_centers_scales(person.box, size), size)
    plain = crop(annotations.read_image(person.image_id), matrix, size)
    box = warp_keypoints(person.box.reshape(2, 2), matrix).reshape(4)
    keypoint_set = annotations.keypoint_set
    annotated = drawn(plain, warp_keypoints(person.keypoints, matrix), person.visible, keypoint_set, box)
    augmented = drawn(*dataset.crop(row), keypoint_set)
    return np.hstack([annotated, np.full((size[1], 4, 3), 250, np.uint8), augmented])


def drawn(
    pixels: Array, keypoints: Array, visible: Array, keypoint_set: KeypointSet, box: Array | None = None
) -> Array:
    """The crop with one person's joints on it, and the box if there is one."""
    import cv2
    import numpy as np

    from litehrnet_cuda.results import KeyPoints

    height, width = pixels.shape[:2]
    whole = np.array([0, 0, width, height])
    picture = KeyPoints(keypoints[None], visible[None], whole[None], np.ones(1), keypoint_set).draw(pixels)
    if box is not None:
        left, top, right, bottom = np.rint(box).astype(int).tolist()
        cv2.rectangle(picture, (left, top), (right, bottom), BOX_COLOR, 1)
    return picture
