"""`litehrnet export`: a network as a file for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from litehrnet_cuda.cli.arguments import DECODER_NAMES, at_least_one, image_size

CLASSES = "classes"  # of litehrnet_cuda.export.network, which cannot be imported without torch

EPILOG = """\
what --out ends in decides what is written
  .onnx  for ONNX Runtime, OpenVINO, TensorRT, and as --checkpoint of evaluate
  .pt2   a torch.export program; with --compile an AOTInductor package
A file that differs from PyTorch is not written, which is exit status 1.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="trained weights: a file or a published name")
    parser.add_argument("--out", required=True, metavar="FILE", help="model.onnx or model.pt2")
    parser.add_argument("--model", metavar="NAME", help="network (default: as the checkpoint says)")
    parser.add_argument("--size", type=image_size, metavar="WxH", help="input size (default: as the checkpoint says)")
    parser.add_argument("--dynamic-size", action="store_true", help="take any size in steps of 32")
    parser.add_argument("--batch", type=at_least_one, metavar="N", help="images at once (default: any number)")
    parser.add_argument(
        "--decode",
        choices=(*DECODER_NAMES, CLASSES),
        metavar="NAME",
        help=f"give key points too: {', '.join(DECODER_NAMES)}; or {CLASSES} of pixels",
    )
    parser.add_argument("--compile", action="store_true", help="compile by AOTInductor (.pt2; takes minutes)")
    numbers = parser.add_mutually_exclusive_group()
    numbers.add_argument("--fp16", action="store_true", help="compute in float16; input and output stay float32")
    numbers.add_argument("--int8", action="store_true", help="compute in 8 bits (.onnx; needs --calibration)")
    parser.add_argument("--calibration", metavar="PATH", help="annotations, data set or images to measure ranges with")


def run(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from litehrnet_cuda.errors import InputError
    from litehrnet_cuda.export.parity import ParityError
    from litehrnet_cuda.export.shape import InputShape
    from litehrnet_cuda.export.source import read_source

    out = Path(args.out)
    kind = out.suffix.lower()
    if kind not in (".onnx", ".pt2"):
        raise InputError(f"--out: expected a name that ends in .onnx or .pt2, got {out.name}")
    if args.compile and kind != ".pt2":
        raise InputError("--compile: expected a name that ends in .pt2 to go with it; ONNX files are not compiled")
    if args.int8 and kind != ".onnx":
        raise InputError("--int8: expected a name that ends in .onnx to go with it")
    if args.int8 != bool(args.calibration):
        raise InputError("--int8 and --calibration: expected both or neither, because one needs the other")
    if args.decode in DECODER_NAMES and args.dynamic_size:
        raise InputError("--decode: expected one size, because decoding inside is for one; leave out --dynamic-size")
    network, metadata, assumed = read_source(args.checkpoint, args.model)
    if args.decode and (args.decode == CLASSES) != (metadata.task == "segmentation"):
        wanted = "segmentation" if args.decode == CLASSES else "poses"
        raise InputError(f"--decode {args.decode}: expected a network for {wanted}, got one for {metadata.task}")
    if metadata.task == "segmentation" and not (args.size or metadata.input_size or args.dynamic_size):
        raise InputError("--size: expected WIDTHxHEIGHT or --dynamic-size, because the checkpoint names no size")
    size = args.size or metadata.input_size or (192, 256)
    metadata = replace(metadata, input_size=size)
    if args.decode in DECODER_NAMES:  # so that whoever evaluates the file measures what it gives
        metadata = replace(metadata, decoder=args.decode)
    shape = InputShape(size, args.batch, args.dynamic_size)
    try:
        if kind == ".onnx":
            from litehrnet_cuda.export.calibration import calibration_images
            from litehrnet_cuda.export.onnx_file import export_onnx

            images = calibration_images(args.calibration, metadata, size) if args.int8 else None
            parity = export_onnx(
                *(network, out, metadata, shape), decoder=args.decode, half=args.fp16, calibration=images
            )
        else:
            from litehrnet_cuda.export.program import export_program

            parity = export_program(
                *(network, out, metadata, shape), decoder=args.decode, half=args.fp16, compiled=args.compile
            )
    except ParityError as error:
        print(f"litehrnet export: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {metadata.variant}, {shape}, {out.stat().st_size / 1e6:.1f} MB")
    print(parity)
    if assumed:
        what = "joints" if metadata.task == "pose" else "classes"
        print(f"the checkpoint does not name its {what}: taken to be {assumed}, which are as many")
    if metadata.task == "segmentation" and not args.dynamic_size and out.suffix.lower() == ".onnx":
        resized = f"images of other sizes will be resized to {size[0]}x{size[1]}"
        print(f"{resized}; with --dynamic-size to the nearest multiples of 32")
    return 0
