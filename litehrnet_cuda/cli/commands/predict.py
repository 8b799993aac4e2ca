"""`litehrnet predict`: poses of people in images."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from litehrnet_cuda.cli.arguments import add_estimator_arguments, create_estimator

EPILOG = """\
writes
  OUT/NAME_poses.jpg   each image with the poses drawn: the person's left blue, right orange
  OUT/poses.json       {"NAME.jpg": {"keypoint_set": ..., "people": [{"score", "box", "keypoints"}, ...]}, ...}

boxes (one of)
  {"street.jpg": [[left, top, right, bottom], ...], ...}
  [{"file_name": "street.jpg", "bbox": [left, top, width, height], "score": 0.9}, ...]
  a COCO annotation file
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--boxes", metavar="FILE", help="boxes of the people (default: one person, the whole image)")
    parser.add_argument(
        "--min-score", type=float, default=0.2, metavar="S", help="joints below it are not drawn (default: %(default)s)"
    )
    add_estimator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    import cv2
    from tqdm import tqdm

    from litehrnet_cuda.data.boxes import ImageBoxes, read_boxes
    from litehrnet_cuda.data.images import find_images, read_image
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import output_folder, written_whole

    images = find_images(args.images)
    boxes_by_name = read_boxes(args.boxes) if args.boxes else None
    if boxes_by_name is not None and not any(path.name in boxes_by_name for path in images):
        raise InputError(
            f"{args.boxes}: expected boxes for the images, but names none of them, such as {images[0].name}"
        )
    estimator = create_estimator(args)
    out = output_folder(args.out)
    found: dict[str, object] = {}
    failures: list[str] = []
    people = 0
    pictures = _picture_names(images)
    for path in tqdm(images, desc="predict", unit="image", disable=len(images) == 1):
        try:
            image = read_image(path)
            if boxes_by_name is None:
                poses = estimator(image)
            else:
                given = boxes_by_name.get(path.name, ImageBoxes([], []))
                poses = estimator(image, given.boxes, given.scores)
        except InputError as error:
            failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        with written_whole(out / pictures[path]) as draft:
            cv2.imwrite(str(draft), poses.draw(image, min_score=args.min_score))
        found[str(path)] = json.loads(poses.to_json())
        people += len(poses)
    if found:
        with written_whole(out / "poses.json") as draft:
            draft.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{people} people in {len(found)} images; pictures and poses.json are in {out}")
    for failure in failures:
        print(f"litehrnet predict: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _picture_names(images: list[Path]) -> dict[Path, str]:
    """A name for every picture, numbered where images of different folders share theirs."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in images:
        name, number = f"{path.stem}_poses.jpg", 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}_poses.jpg"
        taken.add(name)
        names[path] = name
    return names
