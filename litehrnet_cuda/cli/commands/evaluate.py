"""`litehrnet evaluate`: average precision on annotated people."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from litehrnet_cuda.cli.arguments import add_estimator_arguments, create_estimator, whole_number

EPILOG = """\
Without --detections people are looked for in their annotated boxes, which gives an AP that is one to two
points higher than with a detector's boxes: compare like with like.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("--annotations", required=True, metavar="FILE", help="COCO key-point annotations")
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: as in COCO, or beside FILE)")
    parser.add_argument("--detections", metavar="FILE", help="boxes of a person detector, in COCO's results format")
    parser.add_argument("--out", metavar="DIR", help="folder for metrics.json and results.json")
    parser.add_argument(
        "--workers", type=whole_number, default=0, metavar="N", help="processes that read images (default: 0)"
    )
    add_estimator_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.data.coco import CocoKeypoints
    from litehrnet_cuda.engine.evaluate import evaluate
    from litehrnet_cuda.files import output_folder, written_whole

    estimator = create_estimator(args)
    annotation_file = Path(args.annotations)
    annotations = CocoKeypoints(annotation_file, _image_folder(args, annotation_file), estimator.keypoint_set)
    boxes = annotations.detections(args.detections) if args.detections else None
    out = output_folder(args.out) if args.out else None
    evaluation = evaluate(estimator, annotations, boxes, workers=args.workers)
    box_kind = "detected" if args.detections else "annotated"
    count = len(annotations.people if boxes is None else boxes)
    print(
        f"{estimator.model.variant.name}, input {estimator.input_size[0]}x{estimator.input_size[1]}, "
        f"{estimator.decoder} decoder, flip test {'on' if estimator.flip_test else 'off'}, {count} {box_kind} boxes"
    )
    for name, value in evaluation.metrics.items():
        print(f"{name:8} {value:.4f}" if value >= 0 else f"{name:8} none annotated")
    if out is not None:
        with written_whole(out / "results.json") as draft:
            draft.write_text(json.dumps(evaluation.results) + "\n")
        with written_whole(out / "metrics.json") as draft:
            draft.write_text(json.dumps({"boxes": box_kind, **evaluation.metrics}, indent=1) + "\n")
    return 0


def _image_folder(args: argparse.Namespace, annotation_file: Path) -> Path:
    """The given folder, or where COCO keeps the images: in one named after the split, or beside the file."""
    if args.images:
        return Path(args.images)
    root, split = annotation_file.parent.parent, annotation_file.stem.rpartition("_")[2]
    if annotation_file.parent.name == "annotations":
        for folder in (root / split, root / "images" / split):
            if folder.is_dir():
                return folder
    return annotation_file.parent
