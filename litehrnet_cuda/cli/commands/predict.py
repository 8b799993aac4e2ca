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
  OUT/poses.json       {"IMAGE": {"keypoint_set", "people": [{"score", "box", ...}, ...]}, ...}

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
    from tqdm import tqdm

    from litehrnet_cuda.data.boxes import ImageBoxes, read_boxes
    from litehrnet_cuda.data.images import encode_image, find_images, read_image
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import output_folder, written_whole

    images = find_images(args.images)
    given: dict[Path, ImageBoxes] = {}
    if args.boxes:
        table = read_boxes(args.boxes)
        given = {path: boxes for path in images if (boxes := table.of(path)) is not None}
        if not given:
            raise InputError(
                f"{args.boxes}: expected boxes for the images, but it names none of them, such as {images[0].name}"
            )
    estimator = create_estimator(args)
    out = output_folder(args.out)
    pictures = _picture_names(images, out)
    found: dict[str, object] = {}
    failures: list[str] = []
    people = 0
    for path in tqdm(images, desc="predict", unit="image", leave=False, disable=True if len(images) == 1 else None):
        try:
            image = read_image(path)
            if args.boxes:
                boxes = given.get(path, ImageBoxes())
                poses = estimator(image, boxes.boxes, boxes.scores)
            else:
                poses = estimator(image)
            picture = encode_image(poses.draw(image, min_score=args.min_score), ".jpg")
        except InputError as error:
            failures.append(str(error) if str(path) in str(error) else f"{path}: {error}")
            continue
        with written_whole(out / pictures[path]) as draft:
            draft.write_bytes(picture)
        found[str(path)] = json.loads(poses.to_json())
        people += len(poses)
    if found:
        with written_whole(out / "poses.json") as draft:
            draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"images: {len(found)}, people: {people}; pictures and poses.json are in {out}")
        if given and (without := sum(path not in given for path in images)):
            print(f"{without} of the images are not named in {args.boxes}: nobody was looked for there")
    for failure in failures:
        print(f"litehrnet predict: {failure}", file=sys.stderr)
    return 2 if failures else 0


def _picture_names(images: list[Path], out: Path) -> dict[Path, str]:
    """A name for every picture, numbered where images of different folders share theirs; never that of an image."""
    names: dict[Path, str] = {}
    taken = {path.name for path in images if path.resolve().parent == out.resolve()}
    for path in images:
        name, number = f"{path.stem}_poses.jpg", 1
        while name in taken:
            number += 1
            name = f"{path.stem}_{number}_poses.jpg"
        taken.add(name)
        names[path] = name
    return names
