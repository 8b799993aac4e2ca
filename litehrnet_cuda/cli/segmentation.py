"""What the commands do with networks for segmentation."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litehrnet_cuda.cli.arguments import image_size

if TYPE_CHECKING:
    import torch

    from litehrnet_cuda.engine.distributed import Processes
    from litehrnet_cuda.engine.evaluate_segmentation import SegmentationEvaluation
    from litehrnet_cuda.engine.run_files import RunFiles
    from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe
    from litehrnet_cuda.predictors.segmenter import Segmenter

# The values of litehrnet_cuda.predictors.segmenter.Mode, which cannot be imported without torch; a test compares them.
MODE_NAMES = ("whole", "slide")
_OF_POSES = ("annotations", "images", "detections", "box_convention", "metric", "decoder")

DEMO_EPOCHS = 1
DEMO_SIZE = (128, 128)


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how images are put through a network for segmentation."""
    parser.add_argument("--mode", choices=MODE_NAMES, help="segmentation: whole images (default) or windows")
    parser.add_argument("--window", type=image_size, metavar="WxH", help="of slide (default: as trained)")
    parser.add_argument("--stride", type=image_size, metavar="WxH", help="of slide (default: 2/3 of the window)")


def refuse_windows(args: argparse.Namespace) -> None:
    """Raises InputError for options of :func:`add_window_arguments` beside a checkpoint of poses."""
    from litehrnet_cuda.errors import InputError

    for option in ("mode", "window", "stride"):
        if getattr(args, option) is not None:
            raise InputError(f"--{option}: is for segmentation, and {args.checkpoint} is for poses; leave it out")


def create_segmenter(args: argparse.Namespace) -> Segmenter:
    """The segmenter that the options describe."""
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.predictors.segmenter import Segmenter

    for option in ("window", "stride"):
        if getattr(args, option) is not None and args.mode != "slide":
            raise InputError(f"--{option}: expected --mode slide beside it")
    return Segmenter(
        args.model,
        checkpoint=args.checkpoint,
        mode=args.mode or "whole",
        window=args.window,
        stride=args.stride,
        size=args.size,
        flip_test=args.flip_test,
        device=args.device,
        batch_size=args.batch_size or 4,
    )


def evaluate_masks(args: argparse.Namespace, processes: Processes) -> int:
    """`litehrnet evaluate` of a network for segmentation."""
    from litehrnet_cuda.data.mask_datasets import locate_mask_splits
    from litehrnet_cuda.engine.evaluate_segmentation import evaluate_segmentation
    from litehrnet_cuda.engine.segmentation_report import write_report
    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.files import output_folder

    for option in _OF_POSES:
        if getattr(args, option) is not None:
            raise InputError(
                f"--{option.replace('_', '-')}: is for poses, and {args.checkpoint} is for segmentation; leave it out, "
                "and name the masks with --data"
            )
    segmenter = create_segmenter(args)
    splits = locate_mask_splits(args.data)
    if "val" not in splits:
        raise InputError(f"{args.data}: expected a part to validate with (val), got {', '.join(splits)}")
    annotations = splits["val"].read(segmenter.class_set)
    out = output_folder(args.out) if args.out and processes.first else None
    found = evaluate_segmentation(
        segmenter, annotations, workers=args.workers, bad_images=args.bad_images, processes=processes
    )
    if not processes.first:
        return 0
    for _, problem in sorted(found.skipped.items()):
        print(f"skipped: {problem}", file=sys.stderr)
    windows = f"sliding windows of {segmenter.window[0]}x{segmenter.window[1]}"
    setting = [
        segmenter.model.variant.name,
        f"{segmenter.model.head} head",
        found.measured_in.replace("sliding windows", windows),
        f"flip test {'on' if segmenter.flip_test else 'off'}",
        f"{len(found.of_images)} images",
    ]
    if found.skipped:
        setting.append(f"skipped images: {len(found.skipped)}")
    print(", ".join(setting))
    print("\n".join(figure_lines(found)))
    if out is not None:
        write_report(out, segmenter, found, annotations, _details(args, segmenter, found, processes))
        print(f"figures and pictures are in {out}")
    return 0


def figure_lines(found: SegmentationEvaluation) -> list[str]:
    """All figures of an evaluation, a line each."""
    figures = found.metrics
    width = max(map(len, figures))
    return [f"{name:{width}}  {'none' if value < 0 else f'{value:.4f}'}" for name, value in figures.items()]


def _details(
    args: argparse.Namespace, segmenter: Segmenter, found: SegmentationEvaluation, processes: Processes
) -> dict[str, Any]:
    import torch

    from litehrnet_cuda import __version__
    from litehrnet_cuda.files import sha256_of
    from litehrnet_cuda.models.checkpoints import resolve_checkpoint

    return {
        "data": args.data,
        "images": len(found.of_images),
        "skipped_images": len(found.skipped),
        "model": segmenter.model.variant.name,
        "head": segmenter.model.head,
        "checkpoint": args.checkpoint,
        "checkpoint_sha256": sha256_of(resolve_checkpoint(args.checkpoint)),
        "window": list(segmenter.window) if segmenter.mode == "slide" else None,
        "stride": list(segmenter.stride) if segmenter.mode == "slide" else None,
        "size": None if segmenter.size is None else list(segmenter.size),
        "flip_test": segmenter.flip_test,
        "processes": processes.count,
        "torch": torch.__version__,
        "litehrnet_cuda": __version__,
    }


def demo_recipe(weights: Path, epochs: int = DEMO_EPOCHS, seed: int = 0) -> SegmentationRecipe:
    """A short run: from trained weights, on small parts of the images near their own scale, with a rate that falls to
    zero."""
    from litehrnet_cuda.data.mask_augmentation import MaskAugmentation
    from litehrnet_cuda.engine.recipe import TrainConfig
    from litehrnet_cuda.engine.segmentation_recipe import SegmentationRecipe

    return SegmentationRecipe(
        input_size=DEMO_SIZE,
        augmentation=MaskAugmentation(0.6, 1.1, 0.95, color_probability=0.0),
        training=TrainConfig(
            epochs=epochs,
            batch_size=16,
            learning_rate=4e-3,
            warm_up_steps=50,
            decay="cosine",
            seed=seed,
            weights=str(weights),
        ),
    )


def segmentation_demo(
    data: Path, out: Path, weights: Path, *, seed: int = 0, epochs: int = DEMO_EPOCHS, device: torch.device
) -> tuple[RunFiles, SegmentationEvaluation]:
    """Trains on the masks of the drawn people that `litehrnet demo` has drawn for poses.

    Args:
        data: their folder.
        out: for the results; created.
        weights: of the network for poses, to start from.
        seed: of the training.
        epochs: passes over the images.
        device: to train on.
    """
    from litehrnet_cuda.data.mask_datasets import find_mask_splits
    from litehrnet_cuda.engine.run import run_training

    return run_training(out, demo_recipe(weights, epochs, seed), *find_mask_splits(data), device=device, start="anew")
