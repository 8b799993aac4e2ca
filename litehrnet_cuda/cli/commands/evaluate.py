"""`litehrnet evaluate`: accuracy on annotated people, or on images with masks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import add_estimator_arguments, create_estimator, whole_number
from litehrnet_cuda.cli.segmentation import add_window_arguments, evaluate_masks, refuse_windows

if TYPE_CHECKING:
    from litehrnet_cuda.data.annotations import PersonBox, PoseAnnotations, Problem
    from litehrnet_cuda.data.datasets import Split
    from litehrnet_cuda.engine.distributed import Processes
    from litehrnet_cuda.engine.evaluate import Evaluation
    from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

# The values of litehrnet_cuda.engine.evaluate.Metric, litehrnet_cuda.data.transforms.BoxConvention and
# litehrnet_cuda.data.pose_dataset.BadImages, which cannot be imported without torch and numpy; a test compares them.
METRIC_NAMES = ("coco", "pckh", "pck")
BOX_CONVENTION_NAMES = ("official", "mmpose1")
BAD_IMAGES_NAMES = ("stop", "skip")
EVERY_DECODER = "all"

EPILOG = """\
Without --detections people are looked for in their annotated boxes, which gives an AP that is one to two
points higher than with a detector's boxes: compare like with like. Every line and file says which it was.
Several processes: torchrun --nproc-per-node N -m litehrnet_cuda evaluate ...
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "litehrnet evaluate --checkpoint FILE --annotations FILE [options]\n" + (
        "       litehrnet evaluate --checkpoint FILE --data PATH [options]"
    )
    parser.epilog = EPILOG
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--annotations", metavar="FILE", help="JSON of COCO key points or MPII")
    source.add_argument("--data", metavar="PATH", help="folder or TOML file of data: the part to validate with")
    parser.add_argument("--images", metavar="DIR", help="folder of the images (default: where COCO and MPII have it)")
    parser.add_argument("--detections", metavar="FILE", help="boxes of a person detector, in COCO's results format")
    parser.add_argument(
        "--box-convention",
        choices=BOX_CONVENTION_NAMES,
        help="how annotated boxes are clipped (default: as in training, or mmpose1)",
    )
    parser.add_argument(
        "--metric",
        choices=METRIC_NAMES,
        help="coco: AP, AR; pckh: by head sizes; pck: PCK, AUC, EPE (default: as the data have it)",
    )
    parser.add_argument(
        "--bad-images",
        choices=BAD_IMAGES_NAMES,
        default="stop",
        help="at images that cannot be read (default: stop)",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for figures, poses and pictures")
    parser.add_argument(
        "--workers", type=whole_number, default=0, metavar="N", help="processes that read images (default: 0)"
    )
    add_estimator_arguments(parser, more_decoders=(EVERY_DECODER,))
    add_window_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from litehrnet_cuda.engine.distributed import connected, own_device
    from litehrnet_cuda.engine.interruption import plain_failures
    from litehrnet_cuda.predictors.arguments import choose_device
    from litehrnet_cuda.predictors.networks import task_of
    from litehrnet_cuda.predictors.onnx_network import is_onnx_file

    name = args.device or ("cpu" if is_onnx_file(args.checkpoint) else None)
    device = own_device(choose_device(name), shared=True)
    args.device = str(device)
    with plain_failures("try a smaller --batch-size"), connected(device) as processes:
        if task_of(args.checkpoint) == "segmentation":
            return evaluate_masks(args, processes)
        refuse_windows(args)
        return _evaluate(args, processes)


def _evaluate(args: argparse.Namespace, processes: Processes) -> int:
    from litehrnet_cuda.cli.accuracy import accuracy_lines, decoder_lines
    from litehrnet_cuda.codecs.heatmap import DECODERS
    from litehrnet_cuda.data.coco import CocoKeypoints
    from litehrnet_cuda.engine.evaluate import evaluate_decoders, why_not_pckh
    from litehrnet_cuda.engine.report import write_report
    from litehrnet_cuda.files import output_folder

    every_decoder = args.decoder == EVERY_DECODER
    if every_decoder:
        args.decoder = DECODERS[0]
    estimator = create_estimator(args)
    decoders = DECODERS if every_decoder else (estimator.decoder,)
    annotations = _read_annotations(args, estimator)
    detected = _read_detections(args, annotations, processes)
    out = output_folder(args.out) if args.out and processes.first else None
    evaluations = evaluate_decoders(
        *(estimator, annotations, detected, decoders),
        metric=args.metric,
        workers=args.workers,
        bad_images=args.bad_images,
        processes=processes,
    )
    if not processes.first:
        return 0
    found = evaluations[decoders[0]]
    for _, problem in sorted(found.skipped.items()):
        print(f"skipped: {problem}", file=sys.stderr)
    note = None if args.metric else why_not_pckh(annotations)
    if note is not None:
        print(note, file=sys.stderr)
    boxes = f"boxes detected by {Path(args.detections).name}" if args.detections else "annotated boxes"
    # Of people in COCO's form; detected boxes are used as they are.
    convention = annotations.box_convention if isinstance(annotations, CocoKeypoints) and not args.detections else None
    setting = [
        estimator.model.variant.name,
        f"input {estimator.input_size[0]}x{estimator.input_size[1]}",
        "every decoder" if every_decoder else f"{decoders[0]} decoder",
        f"flip test {'on' if estimator.flip_test else 'off'}",
        *([] if convention is None else [f"box convention {convention}"]),
        f"{len(found.poses)} {boxes}",
        *([f"skipped images: {len(found.skipped)}"] if found.skipped else []),
    ]
    print(", ".join(setting))
    if every_decoder:
        print("\n".join(decoder_lines(evaluations, boxes)))
    else:
        print("\n".join(accuracy_lines(found, boxes)))
    if out is not None:
        details = _details(args, estimator, annotations, found, processes) | {"box_convention": convention}
        for decoder, evaluation in evaluations.items():
            folder = out / decoder if every_decoder else out
            write_report(folder, evaluation, annotations, details | {"decoder": decoder})
        print(f"figures, poses and pictures are in {out}, {boxes}")
    return 0


def _read_annotations(args: argparse.Namespace, estimator: PoseEstimator) -> PoseAnnotations:
    from litehrnet_cuda.data.datasets import is_mpii_file
    from litehrnet_cuda.errors import InputError

    split = _split(args, estimator)
    convention = args.box_convention
    if convention:
        if args.detections:
            raise InputError(
                "--box-convention: expected annotated boxes, got --detections, which are used as they are; leave one "
                "of the two out"
            )
        if is_mpii_file(split.annotation_file):
            raise InputError(
                f"--box-convention: expected annotations in COCO's format, got {split.annotation_file} in MPII's, "
                "whose boxes are not clipped; leave it out"
            )
    elif estimator.metadata is not None:
        convention = estimator.metadata.box_convention
    return split.read(box_convention=convention) if convention else split.read()


def _split(args: argparse.Namespace, estimator: PoseEstimator) -> Split:
    from litehrnet_cuda.data.datasets import Split, image_folder, is_mpii_file, locate_splits
    from litehrnet_cuda.errors import InputError

    if args.data:
        if args.images:
            raise InputError("--images: expected --annotations to go with it, got --data, which knows its images")
        splits = locate_splits(args.data)
        if "val" not in splits:
            raise InputError(f"{args.data}: expected a part to validate with ([val]), got {', '.join(splits)}")
        return splits["val"]
    file = Path(args.annotations)
    images = Path(args.images) if args.images else image_folder(file)
    return Split(file, images, None if is_mpii_file(file) else estimator.keypoint_set)


def _read_detections(
    args: argparse.Namespace, annotations: PoseAnnotations, processes: Processes
) -> list[PersonBox] | None:
    from litehrnet_cuda.data.coco import CocoKeypoints
    from litehrnet_cuda.errors import InputError

    if not args.detections:
        return None
    if not isinstance(annotations, CocoKeypoints):
        raise InputError(f"--detections: expected annotations in COCO's format beside it, got {annotations!r}")

    def say(problem: Problem) -> None:
        if processes.first:
            print(problem.message, file=sys.stderr)

    return annotations.detections(args.detections, on_problem=say)


def _details(
    args: argparse.Namespace,
    estimator: PoseEstimator,
    annotations: PoseAnnotations,
    found: Evaluation,
    processes: Processes,
) -> dict[str, Any]:
    import torch

    from litehrnet_cuda import __version__
    from litehrnet_cuda.files import sha256_of
    from litehrnet_cuda.models.checkpoints import resolve_checkpoint

    return {
        "box_count": len(found.poses),
        "detections": args.detections,
        "annotations": str(annotations.annotation_file),
        "people": len(annotations.without_images(found.skipped).people),
        "skipped_images": len(found.skipped),
        "model": estimator.model.variant.name,
        "checkpoint": args.checkpoint,
        "checkpoint_sha256": sha256_of(resolve_checkpoint(args.checkpoint)),
        "input_size": list(estimator.input_size),
        "flip_test": estimator.flip_test,
        "processes": processes.count,
        "torch": torch.__version__,
        "litehrnet_cuda": __version__,
    }
