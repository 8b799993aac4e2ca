"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

# The values of litehrnet_cuda.codecs.heatmap.Decoder, which cannot be imported without numpy; a test compares them.
DECODER_NAMES = ("quarter", "quarter_per_axis", "dark", "udp")


def image_size(text: str) -> tuple[int, int]:
    """``"192x256"`` to ``(192, 256)``: width first, as people and OpenCV write it."""
    width, separator, height = text.lower().partition("x")
    sides = [int(side) if side.isdecimal() and len(side) < 6 else 0 for side in (width, height)]
    if not separator or 0 in sides:
        raise argparse.ArgumentTypeError(f"expected a size such as 192x256 (width x height), got {text!r:.60}")
    return sides[0], sides[1]


def at_least_one(text: str) -> int:
    """A whole number from 1 up."""
    return _bounded(text, 1)


def whole_number(text: str) -> int:
    """A whole number from 0 up."""
    return _bounded(text, 0)


def finite_number(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r:.60}")
    return number


def _bounded(text: str, least: int) -> int:
    # Ten digits at most, which everything behind can hold: sizes of tensors, seeds of every generator.
    if not text.isdecimal() or len(text) > 10 or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r:.60}")
    return int(text)


def add_estimator_arguments(parser: argparse.ArgumentParser, more_decoders: tuple[str, ...] = ()) -> None:
    """The options that choose a network and how it is used; a command may know more decoders than an estimator."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="FILE", help="trained weights: file, .onnx or published name"
    )
    parser.add_argument("--model", metavar="NAME", help="network (default: as the checkpoint says)")
    parser.add_argument(
        "--size",
        type=image_size,
        metavar="WxH",
        help="input size, width first (default: as the checkpoint says, or 192x256)",
    )
    parser.add_argument(
        "--decoder",
        choices=(*DECODER_NAMES, *more_decoders),
        help="how key points are read off heat maps (default: as trained, or quarter)",
    )
    parser.add_argument(
        "--flip-test", action="store_true", help="average with the mirrored image: better, half as fast"
    )
    parser.add_argument(
        "--batch-size", type=at_least_one, metavar="N", help="people (default: 64) or windows (4) at once"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def create_estimator(args: argparse.Namespace) -> PoseEstimator:
    """The estimator that the options of :func:`add_estimator_arguments` describe."""
    from litehrnet_cuda.predictors.pose_estimator import PoseEstimator

    return PoseEstimator(
        args.model,
        checkpoint=args.checkpoint,
        input_size=args.size,
        decoder=args.decoder,
        flip_test=args.flip_test,
        device=args.device,
        batch_size=args.batch_size or 64,
    )
