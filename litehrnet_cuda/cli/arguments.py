"""Types of arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litehrnet_cuda.predictors import PoseEstimator

# The values of litehrnet_cuda.codecs.heatmap.Decoder, which cannot be imported without numpy; a test compares them.
DECODER_NAMES = ("quarter", "quarter_per_axis", "dark", "udp")


def image_size(text: str) -> tuple[int, int]:
    """``"192x256"`` to ``(192, 256)``: width first, as people and OpenCV write it."""
    width, separator, height = text.lower().partition("x")
    if not (separator and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"expected a size such as 192x256 (width x height), got {text!r}")
    return int(width), int(height)


def at_least_one(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def whole_number(text: str) -> int:
    """A whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def add_estimator_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that choose a network and how it is used."""
    parser.add_argument(
        "--checkpoint", required=True, metavar="FILE", help="trained weights: a file or a published name"
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
        choices=DECODER_NAMES,
        default="quarter",
        help="how key points are read off heat maps (default: %(default)s)",
    )
    parser.add_argument(
        "--flip-test", action="store_true", help="average with the mirrored image: better, half as fast"
    )
    parser.add_argument("--batch-size", type=at_least_one, default=64, metavar="N", help="people at once (default: 64)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: cuda if there is one)")


def create_estimator(args: argparse.Namespace) -> PoseEstimator:
    """The estimator that the options of :func:`add_estimator_arguments` describe."""
    from litehrnet_cuda.predictors import PoseEstimator

    return PoseEstimator(
        args.model,
        checkpoint=args.checkpoint,
        input_size=args.size,
        decoder=args.decoder,
        flip_test=args.flip_test,
        device=args.device,
        batch_size=args.batch_size,
    )
